"""A player's process on its own: whatever ends its battles, who waits for them is told."""

import threading
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the extra: pip install 'gemma-metamon[ray]'")
pytest.importorskip("poke_env")

from gemma_metamon.cluster.players import PlayerActor


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is what is tried
def test_battles_that_end_in_no_ordinary_way_leave_nobody_waiting() -> None:
    async def play(*_: Any) -> None:
        raise SystemExit(1)

    actor = PlayerActor(1.0)
    actor._arena = object()  # type: ignore[assignment]  # nothing is played in it
    assert list(actor.play(play, [], 1, None, 0)) == []
    for thread in threading.enumerate():
        if thread.name == "battles":
            thread.join(60)  # or what it raised is put down to another test
