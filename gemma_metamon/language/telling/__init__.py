"""A decision as words: what is told, what may be chosen, and the answers that choose it."""
