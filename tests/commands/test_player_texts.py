"""How players are written: a text is read as it says, whatever folders are called, or refused with what to write."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.commands._player_texts import EnsembleText, RunText, read_text
from gemma_metamon.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(text: str) -> tuple[str, int | None, float | None, float]:
    read = read_text(text)
    assert isinstance(read, RunText)
    return str(read.run_dir), read.epoch, read.temperature, read.weight


def ensemble(text: str) -> tuple[bool, list[tuple[str, int | None, float | None, float]]]:
    read = read_text(text)
    assert isinstance(read, EnsembleText)
    return read.vote, [(str(m.run_dir), m.epoch, m.temperature, m.weight) for m in read.members]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runs/first", ("runs/first", None, None, 1)),
        ("runs/first@7", ("runs/first", 7, None, 1)),
        ("runs/first@T0.8", ("runs/first", None, 0.8, 1)),
        ("runs/first@7@T0.8", ("runs/first", 7, 0.8, 1)),
        ("runs/first@T0.8@7", ("runs/first", 7, 0.8, 1)),
        ("runs/first@7@T0", ("runs/first", 7, 0, 1)),
        ("'runs/a@3'@7", ("runs/a@3", 7, None, 1)),
    ],
)
def test_a_checkpoint(text: str, says: tuple) -> None:
    assert run(text) == says


@pytest.mark.parametrize(
    ("text", "vote", "members"),
    [
        ("ensemble(a@5, b@7@T0.8)", False, [("a", 5, None, 1), ("b", 7, 0.8, 1)]),
        ("ensemble(a)", False, [("a", None, None, 1)]),
        (" ensemble ( a*2,b@T1.5 * 0.5 ) ", False, [("a", None, None, 2), ("b", None, 1.5, 0.5)]),
        ("ensemble(vote: a, b)", True, [("a", None, None, 1), ("b", None, None, 1)]),
        ("ensemble(mean:a,b@2)", False, [("a", None, None, 1), ("b", 2, None, 1)]),
        ("ensemble('a, (b)'@2, \"it's\"@T2*3)", False, [("a, (b)", 2, None, 1), ("it's", None, 2, 3)]),
        ("ensemble('it''s', bob's, x(1))", False, [(n, None, None, 1) for n in ("it's", "bob's", "x(1)")]),
        ("ensemble('a@7'@2, 'b*2')", False, [("a@7", 2, None, 1), ("b*2", None, None, 1)]),
    ],
)
def test_an_ensemble(text: str, vote: bool, members: list) -> None:
    assert ensemble(text) == (vote, members)


@pytest.mark.parametrize(
    "name", ["run@3", "run@T0.8", "a,b", "x(1)", "ensemble(a, b)", "'quoted'", "run*2", "vote: a", " spaced ", "run@"]
)
def test_what_is_the_name_of_a_folder_is_that_folder(name: str, folder: Path) -> None:
    (folder / name).mkdir()
    assert run(name) == (name, None, None, 1)
    assert run(f"{name}@7@T0.5") == (name, 7, 0.5, 1)


@pytest.mark.parametrize("name", ["run@3", "run@T0.8", "x(1)", "run*2", "vote: a", "run@"])
def test_in_an_ensemble_too(name: str, folder: Path) -> None:
    (folder / name).mkdir()
    assert ensemble(f"ensemble({name}, {name}@7*2)") == (False, [(name, None, None, 1), (name, 7, None, 2)])


def test_a_folder_with_a_comma_in_its_name_is_told_to_need_quotes(folder: Path) -> None:
    (folder / "a, b").mkdir()
    for text in ("ensemble(a, b)", "ensemble(there, a, b@5*2)", "ensemble('q, r', vote, a, b@T0.5)"):
        with pytest.raises(ConfigError, match=r"'a, b' is a folder with .* between quotes, as in ensemble\('a, b', "):
            read_text(text)
    assert ensemble("ensemble('a, b'@5, there)")[1][0] == ("a, b", 5, None, 1)
    for name in "ab":
        (folder / name).mkdir()
    assert ensemble("ensemble(a, b@5)")[1] == [("a", None, None, 1), ("b", 5, None, 1)]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=12))
def test_any_name_can_be_quoted(name: str) -> None:
    for quote in "'\"":
        written = f"{quote}{name.replace(quote, 2 * quote)}{quote}"
        assert ensemble(f"ensemble({written}@5, b, {written}*2)")[1] == [
            (str(Path(name)), 5, None, 1),
            ("b", None, None, 1),
            (str(Path(name)), None, None, 2),
        ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ensemble()", "has a member without a name; write it as in ensemble(RUN@5, RUN@7@T0.8)"),
        ("ensemble(a,,b)", "has a member without a name"),
        ("ensemble(a, b", "is not closed"),
        ("ensemble(a, b)@T0.5", "write @T0.5 behind each member instead"),
        ("ensemble(a, ensemble(b, c))", "member 'ensemble(b' of"),
        ("ensemble(median: a, b)", "'median' is no way to decide together; there are mean and vote"),
        ("ensemble(user:Bob, a)", "a member is a run, and nobody who plays from outside"),
        ("ensmble(a)", "no such folder; did you mean ensemble(RUN@5, RUN@7@T0.8)?"),
        ("Ensemble(a, b)", "did you mean ensemble("),
        ("ensemble(a, 'b)", "a quote is not closed"),
        ("ensemble(a, 'b'x)", "behind a quoted name may stand @EPOCH, @T and *WEIGHT, and not 'x'"),
        ("ensemble(a*0, b)", "'0' is no weight; give a number from 0.001"),
        ("ensemble(a*-1, b)", "'-1' is no weight"),
        ("ensemble(a*nan, b)", "'nan' is no weight"),
        ("ensemble(a*2*3, b)", "member 'a*2*3' of 'ensemble(a*2*3, b)' has more than one weight"),
        ("ensemble(a@5@7, b)", "has more than one epoch"),
        ("ensemble(a@Tx, b)", "member 'a@Tx' of 'ensemble(a@Tx, b)': 'x' is no temperature; give 0"),
        ("a@T", "'' is no temperature"),
        ("a@T-1", "'-1' is no temperature"),
        ("a@Tinf", "'inf' is no temperature"),
        ("a@T1e-9", "'1e-9' is no temperature"),
        ("a@T1_0", "'1_0' is no temperature"),
        ("a*2", "a weight is for members of an ensemble"),
        ("there@t0.8", "@t0.8 is neither an epoch, as in RUN@7, nor a temperature, as in RUN@7@T0.8"),
        ("there@latest", "@latest is neither an epoch"),
    ],
)
def test_what_says_nothing_is_refused_with_what_to_write(text: str, complaint: str, folder: Path) -> None:
    (folder / "there").mkdir()
    with pytest.raises(ConfigError) as caught:
        read_text(text)
    assert complaint in str(caught.value)


@given(st.text(max_size=40) | st.text("ensemble(vote:'\"@T*,a0. )", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for written in (text, f"ensemble({text})"):
        with contextlib.suppress(ConfigError):
            read_text(written)
