"""Object stores as fsspec opens them, s3://, gs://, hf:// and others, and what their libraries raise, as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from gemma_metamon.errors import ConfigError, GemmaMetamonError, MissingDependencyError, ServerError
from gemma_metamon.strict_json import on_one_line, shown_path

_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


def open_store(address: str) -> tuple[Any, str]:
    """The file system of an address, and where in it the address leads. Some, as ftp://, connect at once.

    Raises:
        ConfigError: no protocol that fsspec knows.
        MissingDependencyError: one whose package is not installed.
        ServerError: what is connected to does not answer, or refuses us.
    """
    from fsspec.core import url_to_fs

    try:
        with speaking_to(address, passes=(ValueError, ImportError)):
            fs, root = url_to_fs(address)
    except ValueError as error:
        raise ConfigError(f"{shown_path(address)} is no address of a folder ({on_one_line(error)})") from error
    except ImportError as error:
        extra = _EXTRAS.get(address.partition("://")[0])
        mend = f"pip install 'gemma-metamon[{extra}]'" if extra else on_one_line(error)
        raise MissingDependencyError(f"{shown_path(address)} needs a package: {mend}") from error
    return fs, root.rstrip("/")


def require_writable_store(address: str) -> None:
    """Before anything slow: raises ConfigError for a repository of the Hugging Face hub, which is only read.

    Each file written there would be a commit of its own, every 20 seconds of a run, and the hub allows few an hour. Its
    buckets are like those of other stores.
    """
    protocol, _, rest = address.partition("://")
    if protocol == "hf" and not rest.startswith("buckets/"):
        raise ConfigError(
            f"{shown_path(address)} is a repository, where each file written would be a commit; name a folder of this "
            "machine and upload that with `hf upload`, or write to s3://, gs:// or hf://buckets/"
        )


@contextmanager
def speaking_to(address: str, *, passes: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raises ServerError for whatever a store's library raises in the block; our own errors, and these, as they are."""
    known: tuple[type[Exception], ...] = (GemmaMetamonError, *passes)
    try:
        yield
    except known:
        raise
    except Exception as error:  # each library has errors of its own, for a network, a refusal and missing credentials
        what = f"{type(error).__name__}: {on_one_line(error)}"
        raise ServerError(f"{shown_path(address)} could not be reached or read ({what[:300]})") from error
