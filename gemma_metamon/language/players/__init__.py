"""Players that answer in words."""
