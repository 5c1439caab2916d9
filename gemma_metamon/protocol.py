"""Showdown's protocol as text."""


def protocol_lines(text: str) -> list[str]:
    """The messages of a log, each in its line.

    A line ends at a line feed, a carriage return before it included, and nowhere else: chat and nicknames may hold the
    other characters at which Python's `splitlines` splits (U+2028, U+0085, a form feed), and what follows one of them
    is not the server's word.
    """
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
