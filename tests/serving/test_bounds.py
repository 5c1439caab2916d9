"""However large a request is, it is refused before it costs much, and holds nobody else up."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")

from poke_env.data import GenData
from support.served import LOG, REQUEST, ask, policy_of, served

from gemma_metamon.errors import DataError
from gemma_metamon.serving import app
from gemma_metamon.serving.asked import MAX_DECISIONS, read_asked
from gemma_metamon.serving.bounds import LINE_CHARACTERS, MOST_LINES, NAME_CHARACTERS, REQUEST_LEVELS
from gemma_metamon.showdown.live.poke_env_hooks import messages_read

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
        assert refusal(**BATTLE | {"request": REQUEST | {"more": more}}).startswith("the body: request has more than ")
        line = f"|request|{json.dumps(REQUEST | {'more': more})}"
        said = refusal(battle="battle-gen1ou-1", log=[line])
        assert said.startswith("request has more than " if more is deep else "log, line 1 is ")
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


def test_long_battles_share_a_bound_and_the_one_that_was_asked_of_longest_ago_goes(run_dir: Path) -> None:
    with served(policy_of(run_dir)) as (url, service):
        service.battles.most_lines = 3 * len(LOG)
        answers = [ask(f"{url}/act", BATTLE | {"battle": f"battle-gen1ou-{n}"})[0] for n in range(5)]
        assert answers == [200] * 5
        assert len(service.battles) == 3
        longer = [*LOG[:-1], *["|-message|x"] * 5 * len(LOG), LOG[-1]]  # than all may be
        assert ask(f"{url}/act", BATTLE | {"log": longer})[0] == 200
        assert len(service.battles) == 1


def test_what_was_read_of_a_log_is_kept_by_nobody(run_dir: Path) -> None:
    after = ["|move|p2a: Tauros|Body Slam|p1a: Snorlax", "|-damage|p1a: Snorlax|250/300 par", "|turn|2"]
    with served(policy_of(run_dir)) as (url, service):
        first = ask(f"{url}/act", BATTLE)[1]
        (entry,) = service.battles._entries.values()
        assert entry.seat is not None
        assert messages_read(entry.seat._seat.battle) == []
        second = {"log": [*LOG, first["order"], *after], "request": REQUEST | {"rqid": 4}}
        status, remembered = ask(f"{url}/act", BATTLE | second)
        assert (status, remembered["decisions"]) == (200, 2)
        assert entry.seat.n_lines == len(second["log"])
        requests = [f"|request|{json.dumps(request)}" for request in (REQUEST, second["request"])]
        anew = {"battle": "battle-gen1ou-2", "log": [*LOG, requests[0], first["order"], *after, requests[1]]}
        again = ask(f"{url}/act", anew)[1]
    assert again["decisions"] == 2
    for one, other in zip(again["choices"], remembered["choices"], strict=True):
        assert one == other | {name: pytest.approx(other[name], abs=1e-4) for name in ("probability", "value")}


def test_a_log_of_more_pokemon_than_a_team_has_is_refused(run_dir: Path) -> None:
    log = [line for line in LOG if "teamsize" not in line]
    log += [f"|switch|p2a: {name}|{name}|100/100" for name in [*GenData.from_gen(1).pokedex][:30]]
    with served(policy_of(run_dir)) as (url, _):
        status, answer = ask(f"{url}/act", BATTLE | {"log": log})
    assert status == 400
    assert "log has more than 24 Pokémon of one player, up to '|switch|p2a: " in answer["error"]["message"]
