"""A battle that is being played: what is known of it, what may be chosen, what goes out, what is recorded."""
