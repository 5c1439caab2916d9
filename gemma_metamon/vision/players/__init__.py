"""Models that see, as players of battles."""
