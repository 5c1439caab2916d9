"""What evaluations, ladder runs and rounds leave in their folders, as types that refuse what they do not know."""
