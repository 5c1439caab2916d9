"""Pokémon battle agents that read: Gemma 3 270M inside a metamon / AMAGO agent."""

__version__ = "0.1.0"
