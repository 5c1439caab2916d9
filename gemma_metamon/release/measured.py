"""Runs a command and writes the most memory that one process of it had: python -m gemma_metamon.release.measured.

A process of its own, because a child counts what its parent had before it became itself, and this one has little.
"""

import json
import signal
import sys
from pathlib import Path

from gemma_metamon.child_processes import end_with_parent, start_command


def main() -> int:
    """Of the arguments the first is the file to write {"peak_mib": ...} to, the others are the command."""
    report, *command = sys.argv[1:]
    end_with_parent()
    with start_command(command) as process:
        # whoever ends this process means the command
        signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        status = process.wait()
    try:
        import resource
    except ImportError:  # Windows counts otherwise
        return status
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    Path(report).write_text(json.dumps({"peak_mib": peak * unit / 2**20}), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
