"""The report of an evaluation or a run: its numbers, its charts, its links, and that it stands alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.pages import Page, after_scripts, loads, needs_chromium

from gemma_metamon.commands import main
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.reports import charts, run_curves
from gemma_metamon.reports.evaluation import write_report

LOGS = Path(__file__).parent / "battle_logs"
NAMES = {"first@2": "checkpoint", "RandomPlayer": "scripted", "user:<b>Rival</b>": "outside"}
# (player, opponent) -> wins, losses, ties
COUNTS = {
    ("first@2", "RandomPlayer"): (7, 2, 1),
    ("first@2", "user:<b>Rival</b>"): (1, 9, 0),
    ("RandomPlayer", "user:<b>Rival</b>"): (0, 0, 0),
}


def row(wins: int, losses: int, ties: int, *, seen: bool = True) -> dict[str, Any]:
    battles = wins + losses + ties
    return {
        "battles": battles,
        "wins": wins,
        "losses": losses,
        "ties": ties,
        "win_rate": wins / battles if battles else None,
        "interval_95": [*wilson_interval(wins, battles)],
        "mean_turns": 31.25 if battles else None,
        "choices": 40 * battles,
        "refused": 1 if battles else 0,
        "legal_rate": 1 - 1 / (40 * battles) if battles and seen else None,
        "latency_ms": {"median": 6.25, "p95": 14.5} if battles and seen else None,
    }


def write_evaluation(folder: Path) -> dict[str, Any]:
    """As results/schema.py says that an evaluation's folder is; results.json as the first version wrote it."""
    contestants = []
    for name, kind in NAMES.items():
        mine = [counts for pair, counts in COUNTS.items() if pair[0] == name]
        mine += [(losses, wins, ties) for pair, (wins, losses, ties) in COUNTS.items() if pair[1] == name]
        total = row(*(sum(each) for each in zip(*mine, strict=True)), seen=kind != "outside")
        rating = {"elo": 1520.5, "interval_95": [1490.0, 1551.0], "deviation": 15.5, "gxe": 53.1}
        contestants.append({"name": name, "kind": kind, **total, "rating": rating if kind != "outside" else None})
    results = {
        "format": "gen9ou",
        "seed": 3,
        "seconds": 12.5,
        "battles_per_pair": 10,
        "unfinished": "RandomPlayer lost the connection",
        "contestants": contestants,
        "pairs": [{"player": a, "opponent": b, **row(*counts)} for (a, b), counts in COUNTS.items()],
    }
    (folder / "battles").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    lines = []
    for number in range(4):
        log = f"battles/battle-gen9ou-{number}.log"
        if number != 3:
            shutil.copy(LOGS / "gen9ou_player.log", folder / log)
        battle = {"battle": f"battle-gen9ou-{number}", "player": "first@2", "opponent": "RandomPlayer"}
        battle |= {"p1": "opponent", "result": "loss", "turns": 38, "draw": 0, "teams": [None, 0]}
        lines.append({**battle, "choices": [38, 40], "refused": [0, 0], "log": log})
    (folder / "battles.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"battle": "half')
    return results


def write_run(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    metrics = [
        {"update": 10, "loss/total": 3.0, "loss/actor": 1.0, "loss/critic": 2.0},
        {"update": 20, "loss/total": 9.0, "loss/actor": 9.0, "loss/critic": 9.0},
        {"update": 20, "held_out/agreement": 0.9},
        {"update": 20, "loss/total": 2.0, "loss/actor": 1.0, "loss/critic": 1.0},  # resumed after update 10
        {"update": 20, "held_out/agreement": 0.75},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    evaluations = [
        {
            "epoch": epoch,
            "format": "gen1ou",
            "seconds": 1.0,
            "pairs": [{"player": f"run@{epoch}", "opponent": "RandomPlayer", **row(epoch, 3, 0)}],
        }
        for epoch in (2, 1)
    ]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in evaluations))


def test_what_a_chat_model_took_and_what_was_made_for_it_is_shown(tmp_path: Path) -> None:
    results = write_evaluation(tmp_path)
    usage = {"decisions": 40, "calls": 43, "retries": 2, "prompt_tokens": 9000, "completion_tokens": 700, "repairs": 3}
    usage |= {"fallbacks": {"no answer": 2, "no legal answer": 1}, "ended": "<b>m</b> has taken its max_calls=43"}
    policy = {"sampled": False, "combined": None, "members": [], "too_long": 7}
    results["contestants"][0] |= {"kind": "chat", "chat": usage}
    results["contestants"][1] |= {"policy": policy}
    (tmp_path / "results.json").write_text(json.dumps(results))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    name = results["contestants"][0]["name"]
    shown = shown_numbers(Page(html))
    for field, value in usage.items():
        if field != "ended":
            assert shown[name, f"chat.{field}"][0][0] == value
    assert shown[name, "chat.fallbacks"][0][1] == "3"
    assert "2 no answer, 1 no legal answer; stopped: &lt;b&gt;m&lt;/b&gt; has taken its max_calls=43" in html
    assert "7 decisions were made for it" in html


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    write_evaluation(folder / "ev")
    write_run(folder / "run")
    write_report(folder / "ev", run_dirs=[folder / "run"], replays=2)
    return folder / "ev"


def shown_numbers(page: Page) -> dict[tuple[str, str], list[tuple[Any, str]]]:
    """(row, field) -> (the exact value, what a reader sees), once for each table that shows it."""
    shown: dict[tuple[str, str], list[tuple[Any, str]]] = {}
    where = ""
    for element in page.elements:
        where = element.attributes.get("data-row", where)
        if "data-value" in element.attributes:
            value = json.loads(element.attributes["data-value"])
            shown.setdefault((where, element.attributes["data-name"]), []).append((value, element.text))
    return shown


def test_the_tables_show_the_numbers_of_results_json(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    shown = shown_numbers(Page((folder / "report.html").read_text()))
    rows = {row["name"]: row for row in results["contestants"]}
    rows |= {f"{row['player']} against {row['opponent']}": row for row in results["pairs"]}
    for name, numbers in rows.items():
        for field in ("battles", "wins", "losses", "ties", "win_rate", "interval_95", "mean_turns"):
            assert shown.pop((name, field))[0][0] == numbers[field]
        if numbers["legal_rate"] is not None:
            assert shown.pop((name, "legal_rate"))[0][0] == numbers["legal_rate"]
            assert shown.pop((name, "refused"))[0][0] == numbers["refused"]
            assert shown.pop((name, "latency_ms.median"))[0][0] == numbers["latency_ms"]["median"]
            assert shown.pop((name, "latency_ms.p95"))[0][0] == numbers["latency_ms"]["p95"]
        if numbers.get("rating"):
            for field in ("elo", "interval_95", "gxe"):
                assert shown.pop((name, f"rating.{field}"))[0][0] == numbers["rating"][field]
    assert shown == {}


def test_what_a_reader_sees_is_the_number_rounded(folder: Path) -> None:
    shown = shown_numbers(Page((folder / "report.html").read_text()))
    pair = "first@2 against RandomPlayer"
    assert shown[pair, "win_rate"][0][1] == "70.0 %"
    assert shown[pair, "interval_95"][0][1] == "39.7 % to 89.2 %"
    assert shown[pair, "legal_rate"][0][1] == "99.75 %"
    assert shown[pair, "latency_ms.p95"][0][1] == "14.5"
    assert shown["first@2", "rating.elo"][0][1] == "1520"
    assert shown["first@2", "rating.gxe"][0][1] == "53.1 %"
    assert shown["RandomPlayer against user:<b>Rival</b>", "win_rate"][0][1] == "\N{EN DASH}"


def test_the_report_loads_nothing_and_its_links_are_there(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    assert loads(html) == []
    page = Page(html)
    links = [element.attributes["href"] for element in page.all("a")]
    assert links == [f"battles/battle-gen9ou-{name}" for name in ("0.html", "1.html", "2.log")]
    assert all((folder / link).is_file() for link in links)
    assert "RandomPlayer lost the connection" in html
    assert "user:<b>Rival</b>" in [element.text for element in page.all("td")]


def test_a_replay_calls_the_players_by_their_labels(folder: Path) -> None:
    page = (folder / "battles" / "battle-gen9ou-0.html").read_text()
    # the agent sat in the second seat
    assert "RandomPlayer&#39;s Landorus used U-turn" in page
    assert "first@2 won after 38 turns" in page


def test_charts_are_written_as_png_and_drawn_in_the_pages_colours(folder: Path) -> None:
    for name in ("bars.png", "heatmap.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    html = (folder / "report.html").read_text()
    figures = [element.attributes["aria-label"] for element in Page(html).all("figure")]
    assert len(figures) == html.count("<svg ") == 6
    assert "currentColor" in html
    assert "#1d1f22" not in html.split("</style>", 1)[1]  # the colour of text, which dark pages do not have


def test_the_heat_map_has_both_sides_of_a_pair() -> None:
    figure = charts.heat_map(["a", "b"], ["a", "b"], {("a", "b"): 0.7, ("b", "a"): 0.2})
    assert [text.get_text() for text in figure.axes[0].texts] == ["70", "20"]


def test_a_run_that_was_resumed_shows_the_later_numbers(tmp_path: Path) -> None:
    write_run(tmp_path)
    losses, agreement, battles = (figure.axes[0] for figure, _ in run_curves.run_charts(tmp_path))
    lines = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert lines == {
        "actor": [[10, 1], [20, 1]],
        "critics": [[10, 2], [20, 1]],
        "total": [[10, 3], [20, 2]],
    }
    assert agreement.lines[0].get_xydata().tolist() == [[20, 75]]
    assert battles.lines[0].get_xydata().tolist() == [[1, 25], [2, 40]]


def test_each_reward_has_a_chart_of_its_own(tmp_path: Path) -> None:
    lines = [
        {"update": n, "loss/total": 0.1, "reward/total": n, "reward/total_std": 1, "reward/mine:brave": -n}
        for n in (1, 2)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    shown = {
        figure.axes[0].get_title(loc="left"): figure.axes[0].lines for figure, _ in run_curves.run_charts(tmp_path)
    }
    assert list(shown) == ["Losses", "Reward of answers: total", "Reward of answers: mine:brave"]
    assert shown["Reward of answers: mine:brave"][0].get_xydata().tolist() == [[1, -1], [2, -2]]
    (tmp_path / "metrics.jsonl").write_text('{"update": 1, "reward/total": "much"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="reward/total is"):
        run_curves.run_charts(tmp_path)


def test_what_free_answers_earn_and_how_many_are_legal_is_drawn(tmp_path: Path) -> None:
    rows = [
        {"update": 0, "held_out/reward": -0.5, "held_out/reward_se": 0.1, "held_out/legal_share": 0.25},
        {"update": 1, "reward/total": 0.0},
        {"update": 2, "held_out/reward": 0.75, "held_out/reward_se": 0.1, "held_out/legal_share": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shown = {
        figure.axes[0].get_title(loc="left"): [line.get_xydata().tolist() for line in figure.axes[0].lines]
        for figure, _ in run_curves.run_charts(tmp_path)
    }
    assert shown["What free answers to held-out decisions earn"] == [[[0, -0.5], [2, 0.75]]]
    assert shown["Free answers to held-out decisions that are legal"] == [[[0, 25], [2, 100]]]


def test_the_command_makes_a_runs_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "run")
    assert main(["report", str(tmp_path / "run")]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "run" / "report.html"
    assert loads(path.read_text()) == []
    assert "Training of run" in path.read_text()


def test_bad_folders_get_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(MissingFileError, match=r"holds neither results\.json"):
        write_report(tmp_path)
    write_evaluation(tmp_path / "ev")
    with pytest.raises(MissingFileError, match=r"holds no metrics\.jsonl; give the folder of a run"):
        write_report(tmp_path / "ev", run_dirs=[tmp_path])
    (tmp_path / "ev" / "battles.jsonl").write_text("{}\n\nnot json\n")
    with pytest.raises(DataError, match=r"line 2 of .*battles\.jsonl is not JSON"):
        write_report(tmp_path / "ev")
    (tmp_path / "ev" / "battles.jsonl").unlink()
    (tmp_path / "ev" / "results.json").write_text('{"format": "gen1ou"}')
    with pytest.raises(DataError, match=r"ev/results\.json holds no results of an evaluation: seed is missing"):
        write_report(tmp_path / "ev")
    (tmp_path / "ev" / "results.json").write_text("{")
    assert main(["report", str(tmp_path / "ev")]) == 1
    assert "results.json is not JSON" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "ev"), "--replays", "-1"]) == 1


@needs_chromium
def test_a_browser_shows_every_row(folder: Path, tmp_path: Path) -> None:
    page = after_scripts(folder / "report.html", tmp_path)
    assert [element.attributes["data-row"] for element in page.all("tr") if "data-row" in element.attributes] == [
        *NAMES,
        *(f"{player} against {opponent}" for player, opponent in COUNTS),
    ]
