"""What chat models learn by: recorded answers, and rewards."""
