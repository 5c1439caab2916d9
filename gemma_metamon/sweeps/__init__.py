"""Sweeps: many short runs over values of gin bindings and flags, and which of them were best. Knows no flags itself."""
