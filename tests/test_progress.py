"""A bar in a log: few whole lines. On a terminal tqdm draws it."""

import io
import sys

import pytest

from gemma_metamon import progress


def lines_of(monkeypatch: pytest.MonkeyPatch, items: int, every_s: float = 0.0) -> list[str]:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "LINE_EVERY_S", every_s)
    with progress.progress_bar(desc="reading", total=items, unit="battle") as bar:
        for number in range(items):
            bar.set_postfix({"loss": number}, refresh=False)
            bar.update()
    text = log.getvalue()
    assert "\r" not in text
    assert "\n\n" not in text
    return text.splitlines()


@pytest.mark.parametrize("items", [10, 100, 5000])
def test_a_log_has_a_line_for_every_tenth(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(monkeypatch, items)
    assert [int(line.split("%")[0].rpartition(" ")[2]) for line in lines] == [*range(0, 101, 10)]
    assert lines[-1].startswith("reading: 100%")
    assert f"loss={items - 1}" in lines[-1]


def test_a_clock_that_is_set_back_stops_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter(range(10**6))
    monkeypatch.setattr("tqdm.std.time", lambda: 1e9 - 3600.0 * next(hours))  # a stand-in: the machine's is not ours
    lines = lines_of(monkeypatch, 100)
    assert len(lines) == 11
    assert not [line for line in lines if "-" in line]


def test_what_is_done_in_less_than_30_seconds_has_its_begin_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(lines_of(monkeypatch, 5000, every_s=progress.LINE_EVERY_S)) == 2


def test_on_a_terminal_the_bar_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in progress.progress_bar(range(30), mininterval=0):
        pass
    assert terminal.getvalue().count("\r") > 20
