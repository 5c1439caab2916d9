"""A name or reason that is markup stays text in the page of an evaluation, in a real browser."""

from pathlib import Path

import pytest
from support.pages import after_scripts, needs_chromium

from gemma_metamon.reports.evaluation import write_report
from gemma_metamon.results import schema
from gemma_metamon.results.schema import ContestantRow, EvaluationResults, PairRow, counts_of

pytestmark = pytest.mark.slow
HOSTILE = "</title></script><img src=x onerror=alert(1)>"


@needs_chromium
def test_markup_in_names_and_reasons_stays_text(tmp_path: Path) -> None:
    counts = vars(counts_of(wins=1, losses=1, ties=0, turns=40, choices=90, refused=0))
    names = (f"{HOSTILE}a", f"{HOSTILE}b")
    results = EvaluationResults(
        format="gen1ou",
        seed=0,
        seconds=1.0,
        battles_per_pair=2,
        unfinished=HOSTILE,
        contestants=[ContestantRow(name=name, kind="outside", rating=None, **counts) for name in names],
        pairs=[PairRow(player=names[0], opponent=names[1], set_aside={HOSTILE: 1}, **counts)],
    )
    schema.write(tmp_path / "results.json", results)
    (tmp_path / "battles.jsonl").write_text("")
    page = after_scripts(write_report(tmp_path), tmp_path)
    (title,) = [element for element in page.all("title") if "Battles in" in element.text]
    assert title.text == "Battles in gen1ou"
    assert not page.all("img")
    assert any(HOSTILE in element.text for element in page.elements)
