"""Whatever is sent to a service is answered or refused with a reason, and never fails it."""

import copy
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")

from hypothesis import given, settings
from hypothesis import strategies as st
from support.served import LOG, REQUEST, ask, policy_of, served

FEW = settings(max_examples=40)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([10**300, -1, 2**63, 1e308, -0.0]), st.text(max_size=20),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)  # fmt: skip
WORDS = st.sampled_from([
    "p1a: Snorlax", "p2a: Tauros", "p1", "p2", "Snorlax", "Rest", "0 fnt", "1/0", "999999999999/1", "nan/inf", "brn",
    "",     "[from] move: Mimic", "[of] p2a: Tauros", "|", "-6", "99999999999999999999", "Substitute", "typechange",
    "Ann",
    "singles",
])  # fmt: skip
KINDS = st.sampled_from([
    "switch", "drag", "move", "-damage", "-heal", "-boost", "-setboost", "faint", "turn", "-status", "-start", "-end",
    "replace", "detailschange", "-transform", "-formechange", "-weather", "-sidestart", "-clearallboost", "cant",
    "poke",
    "teamsize", "gen", "player", "win", "tie", "error", "request", "teampreview", "-terastallize", "-item",
    "-swapboost",
])  # fmt: skip
LINES = st.builds(lambda kind, rest: "|".join(["", kind, *rest]), KINDS, st.lists(WORDS, max_size=4))


@lru_cache
def _places(depth: int = 4) -> list[tuple[Any, ...]]:
    """Where something stands in the request."""

    def within(value: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(place for key, each in items for place in within(each, (*path, key)))]

    return within(REQUEST, ())[1:]


@pytest.fixture(scope="module")
def url(run_dir: Path) -> Any:
    with served(policy_of(run_dir), rate=1e6) as (url, service):
        yield url
        assert ask(f"{url}/act", {"battle": "battle-gen1ou-last", "log": LOG, "request": REQUEST})[0] == 200
        assert len(service.battles) <= 16


def well_answered(url: str, body: Any) -> int:
    status, answer = ask(f"{url}/act", body)
    assert status in (200, 400, 409, 422), answer
    if status == 200:
        assert json.loads(json.dumps(answer, allow_nan=False))["order"].startswith(("/choose ", "/team"))
    else:
        assert "\n" not in answer["error"]["message"]
        assert len(answer["error"]["message"]) < 1000
    return status


@FEW
@given(body=st.one_of(st.binary(max_size=200), st.recursive(ODD, lambda inner: st.lists(inner, max_size=3))))
def test_any_body(url: str, body: Any) -> None:
    assert well_answered(url, body if isinstance(body, bytes) else json.dumps(body).encode()) == 400


@FEW
@given(lines=st.lists(st.one_of(LINES, st.text(max_size=40)), max_size=12), at=st.integers(0, len(LOG)))
def test_any_lines_in_a_log(url: str, lines: list[str], at: int) -> None:
    log = [*LOG[:at], *lines, *LOG[at:]]
    well_answered(url, {"battle": "battle-gen1ou-1", "log": log, "request": REQUEST})
    well_answered(url, {"battle": "battle-gen9ou-1", "log": [*log, f"|request|{json.dumps(REQUEST)}"]})


@FEW
@given(data=st.data(), value=ODD)
def test_any_value_in_a_request(url: str, data: st.DataObject, value: Any) -> None:
    request = copy.deepcopy(REQUEST)
    *path, last = data.draw(st.sampled_from(_places()))
    parent: Any = request
    for key in path:
        parent = parent[key]
    if data.draw(st.booleans()):
        parent[last] = value
    else:
        del parent[last]
    well_answered(url, {"battle": "battle-gen1ou-2", "log": LOG, "request": request})
