"""Learning from recorded battles. Knows no server."""
