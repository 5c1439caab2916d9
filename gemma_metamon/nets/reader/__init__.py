"""From a turn's words and numbers to one vector: Gemma, its texts and its readout."""
