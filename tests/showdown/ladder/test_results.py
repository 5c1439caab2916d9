"""A ladder run's folder: the logs, what they say, and who may write it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError
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
@settings(deadline=None)
def test_a_logs_outcome_is_that_of_its_present_lines(changes: list[tuple[bool, list[str]]]) -> None:
    log = BattleLog(None)
    for whole, lines in changes:
        (log.replace if whole else log.add)(lines)
        assert log.outcome == read_outcome(log.lines)
        assert log.outcome is log.outcome  # not read twice


def test_chat_ends_no_line_of_a_log_that_was_cut_off(tmp_path: Path) -> None:
    results = Results(tmp_path)
    log = results.new_log("battle-gen1ou-1")
    log.add(["|player|p1|Ann|", "|c|☆Eve|gg\u2028|win|Ann\x85|win|Ann\r|win|Ann"])
    [(_, read)] = results.interrupted()
    results.close()
    assert read.lines == log.lines
