"""How players that search are written."""

from pathlib import Path

import pytest

from gemma_metamon.commands._players import find_players, require_no_search
from gemma_metamon.commands._search_texts import SearchText, read_search
from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.search.settings import SearchSettings


@pytest.mark.parametrize(
    ("text", "run", "settings"),
    [
        ("LookaheadTrainer", None, {}),
        ("LookaheadTrainer()", None, {}),
        ("LookaheadTrainer(forks=96, turns=3)", None, {"forks": 96, "turns": 3}),
        ("search(runs/first, forks=12)", "runs/first", {"forks": 12}),
        ("search(runs/first@7@T0.8)", "runs/first@7@T0.8", {}),
        ("search( runs/a, b , temperature=0.05)", "runs/a, b", {"temperature": 0.05}),
    ],
)
def test_a_search_is_read_as_it_is_written(text: str, run: str | None, settings: dict[str, int]) -> None:
    assert read_search(text) == SearchText(run, SearchSettings(**settings))


@pytest.mark.parametrize("text", ["DuelTrainer", "runs/search", "ensemble(runs/a, runs/b)", "searching(runs/a)"])
def test_others_are_no_search(text: str) -> None:
    assert read_search(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("LookaheadTrainer(forks=0)", "give 1 to"),
        ("LookaheadTrainer(forks=many)", "is no number"),
        ("LookaheadTrainer(forks=4, forks=5)", "more than one forks"),
        ("LookaheadTrainer(runs/first)", "is no setting"),
        ("LookaheadTrainer(depth=3)", "there are forks, turns, temperature"),
        ("search(runs/first, ms=50)", "forks=N instead of ms"),
        ("search(forks=4)", "names no run"),
        ("search(runs/first", "is not closed"),
        ("search(DuelTrainer, forks=4)", r"LookaheadTrainer\(forks=N\) instead"),
        ("search(LookaheadTrainer)", r"LookaheadTrainer\(forks=N\) instead"),
    ],
)
def test_what_is_no_search_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_players([text])


def test_a_folder_of_such_a_name_is_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("LookaheadTrainer(forks=9)").mkdir()
    assert read_search("LookaheadTrainer(forks=9)") is None


def test_a_server_is_refused_before_anything_is_played() -> None:
    found = find_players(["DuelTrainer", "LookaheadTrainer(forks=9)"])
    require_no_search(found[:1], "--server")
    with pytest.raises(ConfigError, match="name DuelTrainer instead"):
        require_no_search(found, "--server")
