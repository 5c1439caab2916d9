"""From an observation's words to Gemma's subword ids, by table look-up. NumPy only."""
