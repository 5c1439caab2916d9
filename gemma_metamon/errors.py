"""What a user can do wrong, each with what was found, what was wanted and what to do.

One base class: the command line prints it as one sentence and exits with 1 (with `--debug`, a traceback).
"""

import signal


class GemmaMetamonError(Exception):
    """Base of every error that a user's input or machine can cause."""


class ConfigError(GemmaMetamonError, ValueError):
    """A flag, a gin binding or a constructor argument that cannot work."""


class DataError(GemmaMetamonError, ValueError):
    """A recorded battle, a vocabulary or another data file that does not hold what it should."""


class MissingFileError(GemmaMetamonError, FileNotFoundError):
    """A file or folder that does not exist."""


class CheckpointMismatchError(GemmaMetamonError, ValueError):
    """A checkpoint that was made for something else than what it is loaded into."""


class MissingDependencyError(GemmaMetamonError, ImportError):
    """An optional package or program that a feature needs; the message says how to install it."""


class ServerError(GemmaMetamonError, RuntimeError):
    """The battle server did not start, did not answer, or refused what was sent."""


class TerminatedError(KeyboardInterrupt):
    """Nobody's mistake: SIGTERM or SIGHUP came. As Ctrl-C's, which asyncio and everybody else lets through.

    `signal` says which of the two it was.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)


def ending(number: int) -> KeyboardInterrupt:
    """What ends a command that this signal has asked to end: KeyboardInterrupt of Ctrl-C, else TerminatedError."""
    return KeyboardInterrupt() if number == signal.SIGINT else TerminatedError(number)
