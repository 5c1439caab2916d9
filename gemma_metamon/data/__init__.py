"""From battle files to batches: encoding, prepared stores, windows."""
