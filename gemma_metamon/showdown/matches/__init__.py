"""Battles between players on a server: watched, counted, evaluated, collected."""
