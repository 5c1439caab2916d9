"""The agents: networks, losses and targets together, and how they act."""
