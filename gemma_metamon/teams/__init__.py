"""Teams written for this project, one Showdown export text per file: `<format>/<name>.<format>_team`."""
