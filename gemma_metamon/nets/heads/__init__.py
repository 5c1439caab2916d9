"""What stands on a timestep of the trajectory: actors, critics, and how they learn from returns."""
