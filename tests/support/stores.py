"""What is sent to an object store, noted."""

from typing import Any

import pytest

from gemma_metamon.object_stores.folders import RemoteFolder


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
