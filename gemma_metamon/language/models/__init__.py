"""Chat models: built, saved and restored, scored, asked, measured, and written for other programs."""
