"""A run: its experiment, its folder, its checkpoints, and what is made of them."""
