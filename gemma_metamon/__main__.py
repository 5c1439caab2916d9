"""`python -m gemma_metamon`: the same as the `gemma-metamon` command."""

import sys

from gemma_metamon.commands import main

if __name__ == "__main__":
    sys.exit(main())
