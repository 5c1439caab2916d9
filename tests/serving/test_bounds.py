"""However large a request is, it is refused before it costs much, and holds nobody else up."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")

from support.served import LOG, REQUEST, ask, policy_of, served

from gemma_metamon.errors import DataError
from gemma_metamon.serving import app
from gemma_metamon.serving.asked import MAX_DECISIONS, read_asked
from gemma_metamon.serving.bounds import LINE_CHARACTERS, MOST_LINES, NAME_CHARACTERS, REQUEST_LEVELS

BATTLE = {"battle": "battle-gen1ou-1", "log": LOG, "request": REQUEST}


def refusal(**fields: Any) -> str:
    with pytest.raises(DataError) as refused:
        read_asked(json.dumps(fields).encode())
    return str(refused.value)


def test_a_list_that_is_too_long_is_refused_before_its_elements_are_looked_at() -> None:
    """Each of them is wrong, too, which is not what is said."""
    for name, most in (("states", MAX_DECISIONS), ("actions", MAX_DECISIONS), ("legal", 13)):
        said = refusal(observation={"states": [], name: [None] * (most + 1)})
        assert said.startswith(f"the body: observation.{name} has {most + 1} of them; give at most {most}, ")
        assert f"{name}[0] is null" in refusal(observation={"states": [], name: [None] * most})
    said = refusal(**BATTLE | {"log": [None] * (MOST_LINES + 1)})
    assert said == f"the body: log has {MOST_LINES + 1} of them; give at most {MOST_LINES}, the lines of one battle"


def test_a_log_of_more_lines_or_characters_than_a_battle_has_is_refused() -> None:
    many = "\n" * MOST_LINES
    for log in (many, ["", many[:-1]]):
        assert refusal(**BATTLE | {"log": log}).startswith(f"log has {MOST_LINES + 1} lines; give at most {MOST_LINES}")
    assert "log, line 2 is '|raw|xxxx" in refusal(**BATTLE | {"log": ["", "|raw|" + "x" * LINE_CHARACTERS]})
    honest = [*LOG, *["|-message|It is so."] * 30_000, "|turn|1000"]
    assert len(read_asked(json.dumps(BATTLE | {"log": honest}).encode()).lines) == len(honest)  # type: ignore[union-attr]


def test_a_request_that_is_larger_than_the_simulators_is_refused() -> None:
    deep: Any = 1
    for _ in range(REQUEST_LEVELS):
        deep = [deep]
    for more in ([""] * LINE_CHARACTERS, "x" * LINE_CHARACTERS, {"x" * LINE_CHARACTERS: 1}, deep):
        assert refusal(**BATTLE | {"request": REQUEST | {"more": more}}).startswith("request has more than ")
    side = REQUEST["side"] | {"name": "x" * (NAME_CHARACTERS + 1)}
    assert f"of {NAME_CHARACTERS + 1} characters" in refusal(**BATTLE | {"request": REQUEST | {"side": side}})


def test_a_large_body_is_read_where_nobody_waits_for_it(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def noting(content: bytes) -> Any:
        threads.append(threading.current_thread().name)
        return read_asked(content)

    monkeypatch.setattr(app, "read_asked", noting)
    with served(policy_of(run_dir)) as (url, _):
        assert ask(f"{url}/act", BATTLE)[0] == 200
        assert ask(f"{url}/act", BATTLE | {"log": [*LOG[:-1], *["|-message|x"] * 3000, LOG[-1]]})[0] == 200
    assert threads[0] == "serving"  # the event loop's own
    assert threads[1] != "serving"
