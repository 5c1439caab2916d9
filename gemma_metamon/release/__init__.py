"""What becomes of a run that is done: what of it is registered, its card, and the checks before it is promoted."""
