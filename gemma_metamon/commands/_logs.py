"""What commands log: to stderr, a message a line, and without passwords and tokens."""

import logging
import sys

from gemma_metamon.release.secrets import hide_secrets


class HidingFormatter(logging.Formatter):
    """Other libraries' words are logged, too, and some tell the whole address that they were given."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, and the traceback where there is one."""
        return hide_secrets(super().format(record))


def log_to_stderr() -> None:
    """Where the process logs nowhere yet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HidingFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # on a machine without CUDA it warns on import that it will be slow, whether or not anything is in 4 bits
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for client in ("httpx", "httpx2"):  # they tell every address, and some hold a signature
        logging.getLogger(client).setLevel(logging.WARNING)
