"""The networks: torch modules that open no file and no socket."""
