"""Battles on a cluster of Ray: those of one machine, battle by battle, also where a node is lost between them."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.collections import contents
from support.small_agent import train_command

from gemma_metamon.commands import _round_steps, main
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import BattleRow
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.matches.processes import PlayPlans
from gemma_metamon.showdown.matches.recordings import Collection
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = [pytest.mark.server, pytest.mark.slow]
TIMEOUT_S = 600.0  # a loaded machine takes a minute to begin a simulator


def collected(
    folder: Path, elsewhere: PlayPlans | None, battles: int = 4, on_battle: Callable[[], Any] | None = None
) -> Collection:
    drawing, strong, weak = map(scripted, ("RandomPlayer", "SimpleHeuristicsPlayer", "NoSwitchRandomPlayer"))
    matchups = [
        Matchup(player=strong, opponent=weak, battles=battles // 2, record_opponent=False),
        Matchup(player=drawing, opponent=drawing, battles=battles // 2),
    ]
    return asyncio.run(
        collect(
            matchups,
            battle_format="gen1ou",
            teams=load_teams("gen1ou"),
            out=folder,
            seed=2,
            concurrency=2,
            max_turns=10,
            timeout_s=TIMEOUT_S,
            label_by=scripted("DuelTrainer"),
            on_battle=on_battle,
            elsewhere=elsewhere,
        )
    )


def test_a_lost_nodes_battles_are_played_again_and_none_counts_twice(cluster: Any, tmp_path: Path) -> None:
    from gemma_metamon.cluster.playing import ClusterPlay

    expected = collected(tmp_path / "here", None, battles=16)
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ended: list[int] = []
    began_again: list[int] = []

    class Watched(ClusterPlay):
        async def __call__(self, *args: Any, **options: Any) -> None:
            forget = options["on_again"]
            options["on_again"] = lambda number: (began_again.append(number), forget(number))
            await super().__call__(*args, **options)

    def lose_the_node() -> None:
        ended.append(len(ended))
        if len(ended) == 2:
            cluster.remove_node(node, allow_graceful=False)

    found = collected(tmp_path / "there", Watched(), 16, on_battle=lose_the_node)
    assert began_again
    assert len(ended) == 16
    assert (found.battles, found.files, found.results) == (16, expected.files, expected.results)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(list((tmp_path / "there").rglob("*.json.*"))) == found.files


def test_a_checkpoints_battles_on_a_cluster_are_those_of_one_machine(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command(tmp_path)) == 0
    run = str(tmp_path / "run")
    reports, rows, logs = [], [], []
    for name, flags in (("here", ["--workers", "1"]), ("there", ["--ray", "auto"])):
        out = tmp_path / name
        command = ["evaluate", "--players", run, "--opponents", "RandomPlayer", "MaxBasePowerPlayer", "--sample"]
        command += ["--battles", "3", "--format", "gen1ou", "--concurrency", "2", "--timeout_s", str(TIMEOUT_S)]
        capsys.readouterr()
        assert main([*command, "--out", str(out), "--json", *flags]) == 0
        # the cluster is this process's own, which hears of the node that another test has killed whenever Ray tells it
        reports.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
        rows.append(
            sorted((asdict(row) for row in read_rows(BattleRow, out / "battles.jsonl")), key=lambda r: r["log"])
        )
        logs.append({path.name: path.read_text() for path in (out / "battles").glob("*.log")})
    assert len(logs[0]) == 6
    assert logs[0] == logs[1]
    assert rows[0] == rows[1]
    here, there = reports
    assert there["decisions"] == here["decisions"] > 0
    assert there["unknown_words"] == here["unknown_words"]
    assert [row["policy"] for row in there["contestants"]] == [row["policy"] for row in here["contestants"]]


def test_what_a_server_cannot_load_is_told_by_its_own_sentence(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command(tmp_path)) == 0
    weights = Checkpoint(tmp_path / "run", 1).folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:100])
    command = ["collect", "--players", str(tmp_path / "run"), "--format", "gen1ou", "--battles", "1", "--ray", "auto"]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("gemma-metamon collect: ")
    assert str(weights.name) in said


def test_a_store_that_a_cluster_prepares_is_the_one_of_one_machine(cluster: Any, tmp_path: Path) -> None:
    from support.small_agent import BATTLES

    command = ["prepare", "--parsed_replay_dir", str(BATTLES), "--formats", "gen1ou", "gen9ou", "--shard_battles", "3"]
    assert main([*command, "--out", str(tmp_path / "here"), "--workers", "1"]) == 0
    assert main([*command, "--out", str(tmp_path / "there"), "--ray", "auto"]) == 0
    stores = [
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.arrow")}
        for name in ("here", "there")
    ]
    assert len(stores[0]) > 2
    assert stores[0] == stores[1]
    assert main(["prepare", "--out", str(tmp_path / "there"), "--verify"]) == 0


def test_what_improve_makes_on_a_cluster_is_what_it_makes_on_one_machine(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps in this process, which is connected: each of them for itself would begin Python, torch and Ray."""
    from support.small_agent import BATTLES

    assert main(train_command(tmp_path, "--formats", "gen1ou")) == 0

    def run_here(main: Callable[[list[str]], int], arguments: list[str], *_: Any) -> None:
        ran.append(arguments)
        assert main(arguments) == 0, arguments

    monkeypatch.setattr(_round_steps, "run_command", run_here)
    found = []
    for name, flags in (("here", ["--workers", "1"]), ("there", ["--ray", "auto"])):
        ran: list[list[str]] = []
        out = tmp_path / name / "improved"
        command = ["improve", "--run_dir", str(tmp_path / "run"), "--format", "gen1ou", "--rounds", "1"]
        command += ["--battles_per_round", "2", "--steps_per_round", "1", "--batch_size_per_gpu", "2"]
        command += ["--opponents", "RandomPlayer", "--eval_opponents", "RandomPlayer", "--eval_battles", "1"]
        command += ["--parent_battles", "1", "--max_turns", "10", "--concurrency", "2", "--device", "cpu"]
        command += ["--parsed_replay_dir", str(BATTLES), "--timeout_s", str(TIMEOUT_S), "--out", str(out)]
        assert main([*command, *flags]) == 0
        assert [("--ray" in arguments) for arguments in ran if arguments[0] != "train"] == [name == "there"] * (
            len(ran) - 1
        )
        results = json.loads((out / "results.json").read_text())
        found.append(
            {
                "battles": contents(out / "battles"),
                # that of the collected battles has the times in their names; the agent has learned from it
                "store": [path.read_bytes() for path in sorted(out.glob("stores/begin/**/*.arrow"))],
                "agent": (Checkpoint(out / "improved", 1).folder / WEIGHTS).read_bytes(),
                "pairs": [
                    {key: value for key, value in pair.items() if key != "latency_ms"} for pair in results["pairs"]
                ],
            }
        )
    here, there = found
    assert here["battles"]
    assert here["store"]
    for what, value in here.items():
        assert there[what] == value, what
