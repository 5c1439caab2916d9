"""A battle in play is watched as it is decided, one battle at a time."""

import functools
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.explained import build_agent, play
from support.pages import Page

from gemma_metamon.explain.watch import NOW, Watcher
from gemma_metamon.showdown.players.policy_player import BatchedPolicy
from gemma_metamon.view import BattleView


@pytest.mark.slow
@pytest.mark.server
def test_battles_are_watched_one_at_a_time(view: BattleView, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts: list[int] = []

    class Reading(Watcher):
        def on_decision(self, *arguments: Any) -> None:
            super().on_decision(*arguments)
            page = (self.folder / NOW).read_text(encoding="utf-8")
            assert 'data-refresh="2.0"' in page
            counts.append(page.count('<section class="decision"'))

    policy = BatchedPolicy(build_agent(view), view, max_battles=8, sample=True)
    with caplog.at_level(logging.WARNING, logger="concurrent.futures"):
        records = play(policy, Reading(tmp_path / "watch"), 2, concurrency=2)
    assert not caplog.records
    assert len(records) == 2
    assert counts[0] == 1
    # the watched battle's next decision, one of the other battle's, or the first of the battle after it
    assert all(after in (before + 1, before, 1) for before, after in pairwise(counts))
    finished = sorted(path for path in (tmp_path / "watch").iterdir() if path.name != NOW)
    assert 1 <= len(finished) <= 2
    lengths = [len(record.states) - 1 for record in records]
    for path in finished:
        html = path.read_text(encoding="utf-8")
        assert "data-refresh" not in html
        assert len(Page(html).all("section", class_="decision")) in lengths


def test_a_policy_says_what_went_wrong_aside(view: BattleView, caplog: pytest.LogCaptureFixture) -> None:
    policy = BatchedPolicy(build_agent(view), view, max_battles=1)
    policy.run_in_policy_thread(functools.partial(int, "x"))
    policy._worker.shutdown(wait=True)
    assert "invalid literal" in caplog.text
