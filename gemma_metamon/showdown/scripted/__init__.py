"""Players that follow rules: damage, duels, trainers."""
