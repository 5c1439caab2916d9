"""Work that goes on for long: improvement rounds step by step, and evaluation beside a training."""
