"""What is sent to an object store, noted, and what is cut off on the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gemma_metamon.errors import ServerError
from gemma_metamon.object_stores.folders import RemoteFolder


@contextmanager
def cut_off(monkeypatch: pytest.MonkeyPatch, remote: RemoteFolder, method: str, file_name: str) -> Iterator[None]:
    """In the block "put_file" or "get_file" fails at files of this name, and the block ends with the error of that."""
    own = getattr(remote._fs, method)

    def fail(source: str, target: str) -> None:
        if source.endswith(file_name):
            raise OSError("killed")
        own(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(remote._fs, method, fail)
        with pytest.raises(ServerError):
            yield


def uploads_noted(monkeypatch: pytest.MonkeyPatch, remote: RemoteFolder) -> list[str]:
    """The names of what is uploaded from now on, in order."""
    order: list[str] = []
    for name in ("put_file", "pipe_file"):
        own = getattr(remote._fs, name)

        def note(first: str, second: Any, own: Any = own) -> None:
            order.append((first if isinstance(second, bytes) else second).removeprefix(f"{remote._root}/"))
            own(first, second)

        monkeypatch.setattr(remote._fs, name, note)
    return order
