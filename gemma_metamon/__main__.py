"""`python -m gemma_metamon`: the same as the `gemma-metamon` command."""

import sys

from gemma_metamon.child_processes import end_with_parent
from gemma_metamon.commands import main

if __name__ == "__main__":
    end_with_parent()  # of a command that another one has started
    sys.exit(main())
