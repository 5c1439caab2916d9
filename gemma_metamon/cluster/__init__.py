"""Battles and prepared stores on several machines, by Ray: leases of work, players and policies as actors."""
