"""Who plays: policies, scripted players and ensembles, by name."""
