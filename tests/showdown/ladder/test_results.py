"""A ladder run's folder: the logs, what they say, and who may write it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.showdown.ladder.results import BattleLog, Results, read_outcome

MESSAGES = (
    "|player|p1|Ann|1|", "|player|p2|Bob|2|", "|t:|1700000000", "|rated|", "|turn|1", "|turn|2", "|request|{}", "",
    "|win|Ann", "|win|Eve", "|tie", "|raw|Ann's rating: 1000 &rarr; <strong>1045</strong>",
)  # fmt: skip


def test_a_folder_is_one_process_at_a_time(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(ConfigError, match="another process plays into"):
        Results(tmp_path)
    results.close()
    Results(tmp_path).close()


@given(st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(MESSAGES)))))
def test_a_logs_outcome_is_that_of_its_present_lines(changes: list[tuple[bool, list[str]]]) -> None:
    log = BattleLog(None)
    for whole, lines in changes:
        (log.replace if whole else log.add)(lines)
        assert log.outcome == read_outcome(log.lines)
        assert log.outcome is log.outcome  # not read twice


def test_lines_that_are_damaged_are_told_and_one_of_a_newer_version_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"log": "battle-gen1ou-1.log", "player": "first@2", "battle": "battle-gen1ou-1", "username": "Anna"}
    row |= {"format": "gen1ou", "opponent": "Bob", "result": "won", "reason": "", "rating_before": None}
    row |= {"rating_after": 1040, "turns": 9, "began_at": "2026-01-01T00:00:00+00:00", "seconds": 3.5, "decisions": 9}
    row |= {"fallbacks": 1, "fallback_reasons": {"late": 1}, "refused": 0, "reconnects": 0, "rejoins": 0}
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (row, {**row, "turns": "9"}, [])) + '{"log": "bat')
    results = Results(tmp_path)
    results.close()
    assert [(name, row.rating_after) for name, row in results.rows.items()] == [("battle-gen1ou-1", 1040)]
    assert caplog.text.count("has a line that is no result") == 3
    assert "turns is '9'; expected a count" in caplog.text
    path.write_text(json.dumps({**row, "mood": "good"}) + "\n")
    with pytest.raises(DataError, match=r"results\.jsonl: mood is unknown; a newer gemma_metamon than this one"):
        Results(tmp_path)
    path.unlink()
    Results(tmp_path).close()  # the folder is free


def test_chat_ends_no_line_of_a_log_that_was_cut_off(tmp_path: Path) -> None:
    results = Results(tmp_path)
    log = results.new_log("battle-gen1ou-1")
    log.add(["|player|p1|Ann|", "|c|☆Eve|gg\u2028|win|Ann\x85|win|Ann\r|win|Ann"])
    [(_, read)] = results.interrupted()
    results.close()
    assert read.lines == log.lines
