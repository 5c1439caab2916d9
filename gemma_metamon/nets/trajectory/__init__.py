"""From the timesteps of a battle so far to one vector each."""
