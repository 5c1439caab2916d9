"""Why a request is not answered: a status and one sentence."""

from gemma_metamon.errors import GemmaMetamonError


class RefusedError(GemmaMetamonError):
    """A request that gets another answer than it asked for.

    Args:
        status: of HTTP, 400 or above.
        message: one sentence, with the mend.
        retry_after_s: when to come again; None where that would not help.
    """

    def __init__(self, status: int, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
