"""Players that look ahead, on the arena's forks of what they may know of their battles."""
