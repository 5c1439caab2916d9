"""All rounds of `improve` together: one rating, and how often each beat the one before it."""

from support.improving import evaluation

from gemma_metamon.loops.round_results import as_table, shares_of_parents, together
from gemma_metamon.reports.evaluation import rating_curve
from gemma_metamon.showdown.matches.ratings import rate


def test_all_rounds_together_are_rated_by_all_of_their_battles() -> None:
    first = evaluation(("us@0", "Rival", 2, 8))
    second = evaluation(("us@1", "us@0", 7, 3), ("us@1", "Rival", 6, 4))
    results = together("us", [first, second])
    rows = {row.name: row for row in results.contestants}
    assert (rows["Rival"].battles, rows["Rival"].wins, rows["Rival"].mean_turns) == (20, 12, 2.0)
    ratings = rate([("us@0", "Rival", 2, 8, 0), ("us@1", "us@0", 7, 3, 0), ("us@1", "Rival", 6, 4, 0)])
    elos = {row.name: row.rating.elo for row in rows.values() if row.rating is not None}
    assert elos == {r.name: r.elo for r in ratings}
    assert len(results.pairs) == 3
    line = rating_curve(results).axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 1]
    assert line.get_ydata().tolist() == [elos["us@0"], elos["us@1"]]


def test_the_table_says_how_often_each_round_beat_its_parent_and_the_last_the_first() -> None:
    rounds = [
        evaluation(("us@0", "Rival", 2, 8)),
        evaluation(("us@1", "us@0", 6, 4)),
        evaluation(("us@2", "us@0", 9, 1), ("us@2", "us@1", 7, 3)),
    ]
    results = together("us", rounds)
    assert {name: pair.win_rate for name, pair in shares_of_parents(results).items()} == {
        "us@1": 0.6,
        "us@2": 0.7,
        "us@2 / us@0": 0.9,
    }
    assert [line.split()[:-5] for line in as_table(results).splitlines()[-3:]] == [
        ["us@1"],
        ["us@2"],
        ["us@2", "/", "us@0"],
    ]


def test_the_table_says_how_often_each_round_won() -> None:
    table = as_table(together("us", [evaluation(("us@0", "Rival", 2, 8)), evaluation(("us@1", "Rival", 6, 4))]))
    assert [line.split()[-1] for line in table.splitlines() if line.startswith("us@")] == ["20.0%", "60.0%"]
