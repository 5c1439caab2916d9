"""Battles and stores on a cluster of Ray: those of one machine, byte by byte, also where a node is lost on the way.

And the cluster's policy servers. They are here since a cluster takes many seconds to begin, and these tests share one.
"""

import asyncio
import json
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.collections import contents
from support.processes import eventually
from support.small_agent import BATTLES, train_command

from gemma_metamon.commands import _round_steps, main
from gemma_metamon.commands._players import contestants, find_players
from gemma_metamon.errors import ServerError
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import BattleRow
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.matches.processes import PlayPlans
from gemma_metamon.showdown.matches.recordings import Collection
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = [pytest.mark.server, pytest.mark.slow]
TIMEOUT_S = 600.0  # a loaded machine takes a minute to begin a simulator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an agent that has learned for a moment; not to be changed."""
    folder = tmp_path_factory.mktemp("learned")
    assert main(train_command(folder, "--formats", "gen1ou")) == 0
    return folder / "run"


def lose_once(cluster: Any, node: Any, is_due: Callable[[], bool]) -> threading.Thread:
    """Kills a node as soon as it is due, while this thread works with the cluster."""

    def lose() -> None:
        eventually(is_due, TIMEOUT_S)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    return thread


def test_a_lost_nodes_battles_are_played_again_and_none_counts_twice(
    cluster: Any, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The node has a player and, on its two GPUs, all policy servers; it dies in the middle of a decision."""
    from gemma_metamon.cluster.playing import ClusterPlay
    from gemma_metamon.cluster.policies import Ask, UnknownSessionError
    from gemma_metamon.cluster.serving import PolicyServers

    found = find_players([str(run)])
    options = {"device": "cpu", "sample": True, "temperature": 1.0, "seed": 3}
    asked = tmp_path / "asked"

    def build(room: int) -> Sequence[Contestant]:
        """On the node that will be lost, the fifth step never ends."""
        import time

        import ray

        made = contestants(found, max_battles=4 * room, **options)
        steps: list[int] = []

        def stop(n_battles: int, took_s: float) -> None:
            steps.append(n_battles)
            if len(steps) == 5:
                asked.touch()
                time.sleep(3600)

        if ray.get_gpu_ids():
            made[0].policy.on_step = stop
        return made

    def collected(name: str, learned: Contestant, elsewhere: PlayPlans | None) -> Collection:
        drawing, strong, weak = map(scripted, ("RandomPlayer", "SimpleHeuristicsPlayer", "NoSwitchRandomPlayer"))
        matchups = [
            Matchup(player=strong, opponent=weak, battles=4, record_opponent=False),
            Matchup(player=learned, opponent=drawing, battles=8),
        ]
        return asyncio.run(
            collect(
                matchups,
                battle_format="gen1ou",
                teams=load_teams("gen1ou"),
                out=tmp_path / name,
                seed=2,
                concurrency=2,
                max_turns=10,
                timeout_s=TIMEOUT_S,
                label_by=scripted("DuelTrainer"),
                on_battle=lambda: ended.append(name),
                elsewhere=elsewhere,
            )
        )

    ended: list[str] = []
    began_again: list[int] = []

    class Watched(ClusterPlay):
        async def __call__(self, *args: Any, **options: Any) -> None:
            forget = options["on_again"]
            options["on_again"] = lambda number: (began_again.append(number), forget(number))
            await super().__call__(*args, **options)

    expected = collected("here", *contestants(found, max_battles=4, **options), None)
    node = cluster.add_node(num_cpus=1, num_gpus=2)
    cluster.wait_for_nodes()
    servers = PolicyServers(build)
    try:
        assert [server.on_gpu for server in servers.servers] == [True, True]
        losing = lose_once(cluster, node, asked.exists)
        with caplog.at_level(logging.WARNING):
            (learned,) = servers.contestants
            found_there = collected("there", learned, Watched(servers))
        losing.join()
        assert [server.on_gpu for server in servers.servers] == [False]
        learned.policy.bind(servers.servers[0].actor, 1_000)
        with pytest.raises(UnknownSessionError):
            learned.policy.step([Ask(session=0, state=None, legal=None, taken=3, draws=[])])
        assert learned.policy.is_lost
    finally:
        servers.close()
    assert began_again
    assert "a policy server is lost; 0 are left" in caplog.text
    assert ended.count("there") == 12
    assert (found_there.battles, found_there.files, found_there.results) == (12, expected.files, expected.results)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(list((tmp_path / "there").rglob("*.json.*"))) == expected.files


@pytest.mark.long
def test_a_checkpoints_battles_on_a_cluster_are_those_of_one_machine(
    cluster: Any, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports, rows, logs = [], [], []
    for name, flags in (("here", ["--workers", "1"]), ("there", ["--ray", "auto"])):
        out = tmp_path / name
        command = ["evaluate", "--players", str(run), "--opponents", "RandomPlayer", "MaxBasePowerPlayer", "--sample"]
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
    cluster: Any, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = Checkpoint(tmp_path / "run", 1).folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:100])
    command = ["collect", "--players", str(tmp_path / "run"), "--format", "gen1ou", "--battles", "1", "--ray", "auto"]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("gemma-metamon collect: ")
    assert str(weights.name) in said


def test_a_store_that_a_cluster_prepares_is_the_one_of_one_machine_also_where_a_node_is_lost(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from gemma_metamon.cluster import tasks

    head = ray.get_runtime_context().get_node_id()
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    has_task = tmp_path / "has_task"
    on_nodes = tasks.on_nodes

    def on_a_node_that_never_ends_its_first(work: Callable[[Any], Any], *rest: Any) -> Any:
        def do(task: Any) -> Any:
            import time

            if ray.get_runtime_context().get_node_id() != head:
                has_task.touch()
                time.sleep(3600)
            return work(task)

        return on_nodes(do, *rest)

    monkeypatch.setattr(tasks, "on_nodes", on_a_node_that_never_ends_its_first)
    losing = lose_once(cluster, node, has_task.exists)
    command = ["prepare", "--parsed_replay_dir", str(BATTLES), "--formats", "gen1ou", "gen9ou", "--shard_battles", "3"]
    assert main([*command, "--out", str(tmp_path / "here"), "--workers", "1"]) == 0
    assert main([*command, "--out", str(tmp_path / "there"), "--ray", "auto"]) == 0
    losing.join()
    stores = [
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.arrow")}
        for name in ("here", "there")
    ]
    assert len(stores[0]) > 2
    assert stores[0] == stores[1]
    assert main(["prepare", "--out", str(tmp_path / "there"), "--verify"]) == 0


@pytest.mark.long
def test_what_improve_makes_on_a_cluster_is_what_it_makes_on_one_machine(
    cluster: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps in this process, which is connected: each of them for itself would begin Python, torch and Ray."""

    def run_here(main: Callable[[list[str]], int], arguments: list[str], *_: Any) -> None:
        ran.append(arguments)
        assert main(arguments) == 0, arguments

    monkeypatch.setattr(_round_steps, "run_command", run_here)
    found = []
    for name, flags in (("here", ["--workers", "1"]), ("there", ["--ray", "auto"])):
        ran: list[list[str]] = []
        out = tmp_path / name / "improved"
        command = ["improve", "--run_dir", str(run), "--format", "gen1ou", "--rounds", "1"]
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


def test_servers_of_lost_nodes_are_given_nothing_and_others_begin_but_not_without_end(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes, of which one is dead before the cluster knows."""
    import ray

    from gemma_metamon.cluster import serving
    from gemma_metamon.cluster.connecting import living_nodes

    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    nodes = living_nodes()
    assert len(nodes) == 2
    cluster.remove_node(node, allow_graceful=False)
    with monkeypatch.context() as patch:
        patch.setattr(serving, "living_nodes", lambda: nodes)  # or Ray may be quick to hear of it
        servers = serving.PolicyServers(lambda room: [scripted("RandomPlayer")])
    eventually(lambda: len(living_nodes()) == 1, TIMEOUT_S)
    monkeypatch.setattr(serving, "MOST_BEGINNINGS", 1)

    async def lose_them() -> None:
        first, second = servers.servers
        assert {first.node, second.node} == set(living_nodes())
        second.node = "of a node that is lost, with which it is"
        assert await servers.take() is first.actor
        await servers.give_back(first.actor, 1, is_lost=False)
        assert servers.servers == [first]
        ray.kill(first.actor)
        servers.count_figures()  # what a dead one has decided is not known, and no error
        for _ in range(2):
            servers.note_progress()
            await servers.give_back(await servers.take(), 1, is_lost=True)
            assert not servers.servers
        with pytest.raises(ServerError, match="all policy servers were lost, and 1 more"):
            await servers.take()

    try:
        assert servers.contestants == [None]
        asyncio.run(lose_them())
    finally:
        servers.close()


def test_a_server_that_cannot_begin_anywhere_is_one_sentence(cluster: Any) -> None:
    from gemma_metamon.cluster.serving import PolicyServers

    def fails(room: int) -> Sequence[Contestant]:
        raise RuntimeError(f"no room for {room}")

    with pytest.raises(RuntimeError, match="no room for"):
        PolicyServers(fails)
