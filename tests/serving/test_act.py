"""A served agent chooses what the same agent chooses in an arena, however much of the battle is remembered."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")

from support.paths import ROOT
from support.served import Moment, ask, played, policy_of, served

from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.players.policy_player import learned

pytestmark = pytest.mark.server
FORMATS = ("gen1ou", "gen9ou")


@pytest.fixture(scope="module")
def moments(run_dir: Path) -> dict[str, list[Moment]]:
    with Arena() as arena:
        return {name: played(arena, learned("tiny", policy_of(run_dir)), name, most=22) for name in FORMATS}


def body(name: str, moment: Moment, **fields: Any) -> dict[str, Any]:
    return {"battle": f"battle-{name}-7", "log": moment.lines} | fields


def orders(url: str, bodies: list[dict[str, Any]]) -> list[str]:
    found = []
    for each in bodies:
        status, answer = ask(f"{url}/act", each)
        assert status == 200, answer
        found.append(answer["order"])
    return found


def leads_apart(moments: list[Moment]) -> list[Moment]:
    """Without the choice of a lead, which is drawn."""
    return [moment for moment in moments if not moment.sent.startswith("/team")]


@pytest.mark.parametrize("name", FORMATS)
def test_each_decision_is_the_arenas_with_the_whole_log(name: str, run_dir: Path, moments: Any) -> None:
    mine = leads_apart(moments[name])
    assert len({moment.sent for moment in mine}) > 3
    with served(policy_of(run_dir)) as (url, service):
        assert orders(url, [body(name, moment) for moment in mine]) == [moment.sent for moment in mine]
        assert len(service.battles) == 1
        assert b"logs_read_anew_total 0.0" in service.metrics.as_text()


def test_the_body_that_the_guide_sends_is_answered(run_dir: Path) -> None:
    with served(policy_of(run_dir)) as (url, _):
        status, answer = ask(f"{url}/act", (ROOT / "examples" / "act.json").read_bytes())
    assert (status, answer["decisions"], len(answer["choices"])) == (200, 3, 9)
    assert answer["order"].startswith("/choose ")


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_so_with_the_request_beside_the_log(name: str, run_dir: Path, moments: Any) -> None:
    mine = leads_apart(moments[name])
    with served(policy_of(run_dir)) as (url, _):
        bodies = [body(name, moment, log="\n".join(moment.log), request=moment.request) for moment in mine]
        assert orders(url, bodies) == [moment.sent for moment in mine]


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_so_where_nothing_is_remembered(name: str, run_dir: Path, moments: Any) -> None:
    """Another service, asked once in the middle of the battle, reads the log anew: its numbers are the same."""
    mine = leads_apart(moments[name])
    with served(policy_of(run_dir)) as (url, _):
        remembering = [ask(f"{url}/act", body(name, moment))[1] for moment in mine]
    with served(policy_of(run_dir), most=1) as (url, service):
        for at in (len(mine) // 2, len(mine) - 1, 1):
            ask(f"{url}/act", body("gen1ou", mine[0], battle="battle-gen1ou-other"))  # which takes the only place
            status, answer = ask(f"{url}/act", body(name, mine[at]))
            assert status == 200
            assert answer["order"] == mine[at].sent
            assert answer["decisions"] == remembering[at]["decisions"]
            assert close(answer, remembering[at])
            assert len(service.battles) == 1


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        a["order"] == b["order"]
        and a["probability"] == pytest.approx(b["probability"], abs=1e-5)
        and a["value"] == pytest.approx(b["value"], abs=1e-4)
        for a, b in zip(one["choices"], other["choices"], strict=True)
    )


def test_the_choices_are_named_as_showdown_names_them(run_dir: Path, moments: Any) -> None:
    with served(policy_of(run_dir)) as (url, _):
        answers = [ask(f"{url}/act", body("gen9ou", moment))[1] for moment in leads_apart(moments["gen9ou"])]
    choices = [choice for answer in answers for choice in answer["choices"]]
    assert all(sum(c["probability"] for c in answer["choices"]) == pytest.approx(1, abs=1e-4) for answer in answers)
    assert all(isinstance(c["value"], float) for c in choices)
    tera = next(c for c in choices if c["choice"].endswith(" terastallize"))
    assert tera["choice"].split(" ")[1].isalpha()
    assert tera["order"].endswith(" terastallize")
    assert tera["name"].endswith(", Terastallize")
    switch = next(c for c in choices if c["choice"].startswith("switch "))
    assert switch["order"] == f"/choose {switch['choice']}"
    assert switch["name"].startswith("switch ")
    for answer in answers:
        assert answer["choice"] in {c["choice"] for c in answer["choices"]}


def test_what_was_sent_instead_is_what_is_remembered(run_dir: Path, moments: Any) -> None:
    mine = moments["gen1ou"]
    with served(policy_of(run_dir)) as (url, service):
        first = ask(f"{url}/act", body("gen1ou", mine[0]))[1]
        other = next(c["order"] for c in first["choices"] if c["order"] != first["order"])
        after = mine[1].lines[len(mine[0].lines) :]
        answers = [
            ask(f"{url}/act", body("gen1ou", mine[1], log=[*mine[0].lines, sent, *after]))[1]
            for sent in (f"{mine[0].sent}|3", other)
        ]
        assert answers[0]["decisions"] == answers[1]["decisions"] == 2
        assert not close(*answers)
        assert b"logs_read_anew_total 1.0" in service.metrics.as_text()
        assert close(ask(f"{url}/act", body("gen1ou", mine[1], battle="battle-gen1ou-8"))[1], answers[0])


def test_the_same_request_again_gets_the_same_answer_and_a_refused_choice_another(run_dir: Path, moments: Any) -> None:
    moment = moments["gen1ou"][3]
    with served(policy_of(run_dir)) as (url, _):
        first = ask(f"{url}/act", body("gen1ou", moment))
        assert ask(f"{url}/act", body("gen1ou", moment)) == first
        chatted = [*moment.lines, "|c|Ann|good luck"]
        assert ask(f"{url}/act", body("gen1ou", moment, log=chatted)) == first
        refused = [*chatted, "|error|[Invalid choice] Can't move: it is disabled"]
        status, second = ask(f"{url}/act", body("gen1ou", moment, log=refused))
    assert status == 200
    assert second["order"] != first[1]["order"]


def test_a_lead_is_chosen_at_team_preview(run_dir: Path, moments: Any) -> None:
    (lead,) = [moment for moment in moments["gen9ou"] if moment.sent.startswith("/team")]
    with served(policy_of(run_dir)) as (url, _):
        status, answer = ask(f"{url}/act", body("gen9ou", lead))
        assert status == 200
        assert sorted(answer["order"].removeprefix("/team ")) == list("123456")
        assert answer["choice"] == answer["order"].removeprefix("/")
        assert ask(f"{url}/act", body("gen9ou", lead, battle="battle-gen9ou-7"))[1] == answer


def test_battles_that_ask_at_once_are_decided_in_few_steps_and_as_alone(run_dir: Path, moments: Any) -> None:
    mine = moments["gen1ou"][:3]
    policy = policy_of(run_dir, most=24)
    policy.gather_s = 0.1
    sizes: list[int] = []
    with served(policy, most=24) as (url, service), ThreadPoolExecutor(24) as pool:
        policy.on_step = lambda size, _: sizes.append(size)
        for moment in mine:
            bodies = [body("gen1ou", moment, battle=f"battle-gen1ou-{n}") for n in range(24)]
            answers = list(pool.map(lambda each: ask(f"{url}/act", each), bodies))
            assert {status for status, _ in answers} == {200}
            assert {answer["order"] for _, answer in answers} == {moment.sent}
        assert len(service.battles) == 24
    assert sum(sizes) == 24 * len(mine)
    assert max(sizes) > 4


def test_no_more_battles_are_remembered_than_may_be(run_dir: Path, moments: Any) -> None:
    with served(policy_of(run_dir, most=3), most=3) as (url, service):
        for n in range(9):
            ask(f"{url}/act", body("gen1ou", moments["gen1ou"][0], battle=f"battle-gen1ou-{n}"))
        assert len(service.battles) == 3
        status, answer = ask(f"{url}/act", body("gen1ou", moments["gen1ou"][1], battle="battle-gen1ou-0"))
    assert (status, answer["order"]) == (200, moments["gen1ou"][1].sent)
