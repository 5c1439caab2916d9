"""A player's process on its own: whatever ends its battles, who waits for them is told."""

import threading
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the extra: pip install 'gemma-metamon[ray]'")
pytest.importorskip("poke_env")

from gemma_metamon.cluster.players import SERVER_LOST, PlayerActor
from gemma_metamon.cluster.policies import Described, RemotePolicy
from gemma_metamon.errors import ServerError
from gemma_metamon.results.schema import PolicyRow
from gemma_metamon.showdown.matches.arena_play import Plan
from gemma_metamon.showdown.players.contestants import Contestant, scripted


def player() -> PlayerActor:
    actor = PlayerActor(1.0)
    actor._arena = object()  # type: ignore[assignment]  # nothing is played in it
    return actor


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is what is tried
def test_battles_that_end_in_no_ordinary_way_leave_nobody_waiting() -> None:
    async def play(*_: Any) -> None:
        raise SystemExit(1)

    assert list(player().play(play, [], 1, None, 0)) == []
    for thread in threading.enumerate():
        if thread.name == "battles":
            thread.join(60)  # or what it raised is put down to another test


@pytest.mark.parametrize("lost", [False, True])
def test_whether_the_policy_server_is_lost_decides_what_is_told_of_what_was_raised(lost: bool) -> None:
    row = PolicyRow(sampled=False, combined=None, members=[])
    policy = RemotePolicy(0, Described(name="it", kind="ensemble", row=row, n_draws=0))
    plans = [Plan(number=0, players=(scripted("RandomPlayer"), Contestant("it", lambda **_: None, policy)))]

    async def play(*_: Any) -> None:
        policy.is_lost = lost
        raise ServerError("no answer")

    (told,) = player().play(play, plans, 1, None, 0)
    assert told == SERVER_LOST if lost else isinstance(told, ServerError)
