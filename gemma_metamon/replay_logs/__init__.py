"""Showdown's own replays and logs as recorded battles: a player's own exactly, a spectator's as far as it tells."""
