"""Battles in process: the simulator as a library in Node workers over pipes, seeded, repeatable and forkable."""
