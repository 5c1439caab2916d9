"""Rated play on a server that may drop the connection, restart, or refuse."""
