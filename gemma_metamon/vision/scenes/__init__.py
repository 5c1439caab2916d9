"""Decisions as pictures: what is to be seen, and how it is drawn."""
