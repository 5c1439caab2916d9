"""The battle server of this machine, its formats, and the teams that it is given."""
