"""The game as plain data: states, observations, actions, rewards and recorded battles. No torch."""
