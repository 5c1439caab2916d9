"""results.json is read back as it was written, as older versions wrote it too, and refused by field otherwise."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.commands import main
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.loops.round_results import together
from gemma_metamon.reports.evaluation import write_report
from gemma_metamon.results import schema
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import (
    BattleRow,
    ContestantRow,
    EvaluationResults,
    Latency,
    MemberRow,
    PairRow,
    PolicyRow,
    RatingRow,
    RoundsResults,
    counts_of,
)

POLICY = PolicyRow(sampled=False, combined="vote", members=[MemberRow(name="a@1", temperature=1, weight=2)])
COUNTS = st.integers(0, 50)


def result_rows(wins: int, losses: int, ties: int, latency: Latency | None = None) -> dict[str, Any]:
    counts = counts_of(wins=wins, losses=losses, ties=ties, turns=9.5, choices=wins, refused=0, latency_ms=latency)
    return vars(counts)


def evaluation(wins: int = 3, losses: int = 1, ties: int = 0) -> EvaluationResults:
    rating = RatingRow(elo=1510.0, interval_95=(1400.0, 1620.0), deviation=56.0, gxe=51.0)
    ours = result_rows(wins, losses, ties, Latency(median=2.5, p95=7.0))
    return EvaluationResults(
        format="gen1ou",
        seed=0,
        seconds=1.25,
        battles_per_pair=4,
        unfinished=None,
        set_aside=1,
        contestants=[
            ContestantRow(name="ours", kind="ensemble", policy=POLICY, rating=rating, **ours),
            ContestantRow(name="Rival", kind="scripted", rating=None, **result_rows(losses, wins, ties)),
        ],
        pairs=[PairRow(player="ours", opponent="Rival", set_aside={"a form": 1}, **ours)],
    )


@given(COUNTS, COUNTS, COUNTS)
@settings(max_examples=30)
def test_results_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, wins: int, losses: int, ties: int
) -> None:
    path = tmp_path_factory.mktemp("results") / "results.json"
    results = evaluation(wins, losses, ties)
    for written in (results, RoundsResults(**vars(results), rounds_of="ours")):
        schema.write(path, written)
        assert schema.read(path) == written


def test_the_file_keeps_its_names_and_their_order(tmp_path: Path) -> None:
    schema.write(tmp_path / "results.json", evaluation())
    content = json.loads((tmp_path / "results.json").read_text())
    counts = ["battles", "wins", "losses", "ties", "win_rate", "interval_95", "mean_turns"]
    counts += ["choices", "refused", "legal_rate", "latency_ms"]
    assert list(content) == [
        *("format", "seed", "seconds", "battles_per_pair", "unfinished", "set_aside", "contestants", "pairs")
    ]
    assert list(content["contestants"][0]) == ["name", "kind", "policy", "chat", *counts, "rating"]
    assert list(content["pairs"][0]) == ["player", "opponent", *counts, "set_aside"]
    assert content["pairs"][0]["interval_95"] == [*evaluation().pairs[0].interval_95]


def first_version(content: dict[str, Any]) -> None:
    """Without what was added later."""
    del content["set_aside"]
    for row in content["contestants"]:
        del row["policy"]
    for row in content["pairs"]:
        del row["set_aside"]


def test_what_older_versions_wrote_is_read_and_reported(tmp_path: Path) -> None:
    content = dataclasses.asdict(evaluation())
    first_version(content)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    results = schema.read(path)
    assert (results.set_aside, results.contestants[0].policy, results.pairs[0].set_aside) == (0, None, {})
    write_report(tmp_path)
    path.write_text(json.dumps({"rounds_of": "ours", **content}))  # of `improve`
    assert isinstance(schema.read(path), RoundsResults)
    write_report(tmp_path)


HARMS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no pairs": (lambda r: r.pop("pairs"), "holds no results of an evaluation: pairs is missing"),
    "pairs an object": (lambda r: r.update(pairs={}), "pairs is {}; expected a list"),
    "format null": (lambda r: r.update(format=None), "format is null; expected a string"),
    "unfinished a number": (lambda r: r.update(unfinished=5), "unfinished is 5; expected a string or null"),
    "wins of true": (lambda r: r["pairs"][0].update(wins=True), r"pairs\[0\]\.wins is True; expected a count"),
    "wins a text": (
        lambda r: r["contestants"][1].update(wins="3"),
        r"contestants\[1\]\.wins is '3'; expected a count",
    ),
    "no sum": (
        lambda r: r["pairs"][0].update(wins=2),
        r"pairs\[0\]: battles is 4; expected wins, losses and ties together \(2 \+ 1 \+ 0\)",
    ),
    "a rate of none": (lambda r: r["pairs"][0].update(win_rate=None), r"pairs\[0\]: win_rate is null of 4 battles"),
    "an interval beside": (
        lambda r: r["pairs"][0].update(interval_95=[0.9, 1]),
        r"pairs\[0\]: interval_95 is \[0\.9, 1\]; expected two shares with win_rate between them",
    ),
    "half an interval": (
        lambda r: r["contestants"][0]["rating"].update(interval_95=[1]),
        r"contestants\[0\]\.rating\.interval_95 is \[1\]; expected a list of 2",
    ),
    "a kind of nobody": (
        lambda r: r["contestants"][0].update(kind="human"),
        r"contestants\[0\]\.kind is 'human'; "
        r"expected 'checkpoint' or 'ensemble' or 'text' or 'chat' or 'scripted' or 'outside'",
    ),
    "a stranger": (
        lambda r: r["pairs"][0].update(opponent="Nobody"),
        "pairs name 'Nobody', who is not among the contestants",
    ),
    "a field more": (
        lambda r: r["pairs"][0].update(draw_rate=0.5),
        r"pairs\[0\]\.draw_rate is unknown; a newer gemma_metamon than this one \(.*\) may have written it",
    ),
    "a layout to come": (
        lambda r: r.update(layout=2),
        r"results\.json has layout 2, expected 1; a newer gemma_metamon than this one \(.*\) may have",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_wrong_field_is_named_in_one_sentence(harm: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    change, complaint = HARMS[harm]
    content = dataclasses.asdict(evaluation())
    content = json.loads(json.dumps(content))
    change(content)
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=complaint):
        schema.read(tmp_path / "results.json")
    assert main(["report", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"gemma-metamon report: {tmp_path / 'results.json'}")
    assert said.count("\n") == 1


@given(st.data())
@settings(max_examples=150)
def test_one_value_exchanged_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = json.loads(json.dumps(dataclasses.asdict(evaluation())))
    places = list(walk(copy.deepcopy(content), ()))
    *way, last = data.draw(st.sampled_from(places))
    at = content
    for step in way:
        at = at[step]
    at[last] = data.draw(st.none() | st.booleans() | st.integers(-2, 9) | st.floats(-1, 2) | st.just("x") | st.just([]))
    path = tmp_path_factory.mktemp("harmed") / "results.json"
    path.write_text(json.dumps(content))
    try:
        schema.write(path, schema.read(path))
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert json.loads(path.read_text()) == content


def walk(value: Any, way: tuple[Any, ...]) -> Any:
    """The ways to every value in lists and objects."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*way, key)
            yield from walk(entry, (*way, key))


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no file"):
        schema.read(tmp_path / "results.json")


def test_a_line_that_is_no_battle_is_named_with_its_field(tmp_path: Path) -> None:
    battle = {"battle": "battle-gen1ou-1", "player": "a", "opponent": "b", "p1": "player", "result": "win", "turns": 9}
    battle |= {"draw": 0, "teams": [0, None], "choices": [9, 9], "refused": [0, 0], "log": "battles/x.log"}
    path = tmp_path / "battles.jsonl"
    path.write_text(json.dumps(battle) + "\n")
    assert read_rows(BattleRow, path)[0].teams == (0, None)
    path.write_text(json.dumps(battle) + "\n" + json.dumps({**battle, "result": "won"}) + "\n")
    complaint = r"line 2 of .*battles\.jsonl cannot be read: result is 'won'; expected 'win' or 'loss' or 'tie'"
    with pytest.raises(DataError, match=complaint):
        read_rows(BattleRow, path)


def test_an_ensemble_that_the_rounds_met_keeps_its_policy(tmp_path: Path) -> None:
    pytest.importorskip("choix", reason="pip install 'gemma-metamon[report]'")
    results = together("us", [evaluation(), evaluation(0, 2, 1)])
    assert [(row.name, row.policy, row.wins) for row in results.contestants] == [
        ("ours", POLICY, 3),
        ("Rival", None, 3),
    ]
    assert results.set_aside == 2
    schema.write(tmp_path / "results.json", results)
    write_report(tmp_path)
    assert "each member has a vote" in (tmp_path / "report.html").read_text()


def test_a_checkpoint_without_battles_leaves_the_others_their_report(tmp_path: Path) -> None:
    """As of an evaluation whose first pair could not play."""
    counts, nothing = result_rows(3, 1, 0), result_rows(0, 0, 0)
    results = dataclasses.replace(
        evaluation(),
        contestants=[
            ContestantRow(name="new@1", kind="checkpoint", rating=None, **nothing),
            ContestantRow(name="A", kind="scripted", rating=None, **counts),
            ContestantRow(name="B", kind="scripted", rating=None, **result_rows(1, 3, 0)),
        ],
        pairs=[
            PairRow(player="new@1", opponent="A", **nothing),
            PairRow(player="A", opponent="B", **counts),
        ],
    )
    schema.write(tmp_path / "results.json", results)
    assert 'data-row="A against B"' in write_report(tmp_path).read_text()
