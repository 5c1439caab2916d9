"""Language models as players: what they are told of a battle in play, and how they are asked."""
