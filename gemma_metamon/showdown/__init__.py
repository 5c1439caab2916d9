"""Battles on a Pokémon Showdown server: the server itself, players, collection, evaluation. Knows no optimizer."""
