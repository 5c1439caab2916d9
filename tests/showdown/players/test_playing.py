"""An agent plays whole battles on the real simulator, many at once, and sends only what the simulator allows."""

import asyncio
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.errors import ServerError
from gemma_metamon.runs.checkpoints import META, WEIGHTS, Checkpoint
from gemma_metamon.runs.loading import load_for_play
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.evaluate import play_match
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, PolicyPlayer
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import load_teams
from gemma_metamon.view import BattleView


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


def load_policy(run_dir: Path, *, max_battles: int = 16, **options: Any) -> BatchedPolicy:
    playable = load_for_play(Checkpoint.find(run_dir), "cpu")
    return BatchedPolicy(playable.agent, playable.view, max_battles=max_battles, **options)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_battles_are_played_to_the_end_with_no_choice_refused(run_dir: Path, battle_format: str) -> None:
    policy = load_policy(run_dir, sample=True)
    refused: list[str] = []
    records: list[Any] = []

    def build(**options: Any) -> PolicyPlayer:
        player = PolicyPlayer(policy, **options)
        open_door(player).record(Recorder(lambda battle, record: records.append(record)))
        receive = player.ps_client._on_battle_message

        async def listen(split_messages: list[list[str]]) -> None:
            refused.extend("|".join(m) for m in split_messages if len(m) > 2 and m[1] == "error")
            await receive(split_messages)

        player.ps_client._on_battle_message = listen
        return player

    with running_server() as server:
        result = asyncio.run(
            play_match(
                build,
                "RandomPlayer",
                6,
                battle_format=battle_format,
                teams=load_teams(battle_format),
                websocket_url=server.websocket_url,
                concurrency=6,
            )
        )
    assert result.battles == len(records) == 6
    assert result.choices.refused == len(refused)
    # a Pokémon that is perhaps trapped is told so by a refusal and a new request: the protocol's way, not our mistake
    assert [line for line in refused if "Unavailable choice" not in line] == []
    assert policy.decisions >= sum(len(record.states) - 1 for record in records)
    assert len(policy._free_rows) == 16


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize(
    ("space", "granularity"), [("GroupedObservationSpace", "entity"), ("PAC-OpponentMoveObservationSpace", "turn")]
)
def test_an_agent_of_a_newer_space_trains_and_plays(space: str, granularity: str, tmp_path: Path) -> None:
    overrides = ["--obs_space", space, "--gin_override", f"GemmaTstepEncoder.granularity = '{granularity}'"]
    assert main(train_command(tmp_path, *overrides)) == 0
    policy = load_policy(tmp_path / "run", sample=True)
    assert policy.view.obs_space.name == space
    with running_server() as server:
        result = asyncio.run(
            play_match(
                functools.partial(PolicyPlayer, policy),
                "RandomPlayer",
                2,
                battle_format="gen9ou",
                teams=load_teams("gen9ou"),
                websocket_url=server.websocket_url,
                concurrency=2,
            )
        )
    assert result.battles == 2
    assert policy.decisions > 10
    assert not policy.view.vocabulary.unknown_counts


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.long
def test_64_battles_at_once_share_their_steps(run_dir: Path) -> None:
    policy = load_policy(run_dir, max_battles=64, sample=True)
    sizes: list[int] = []
    act = policy.agent.act

    def counting(obs: dict[str, torch.Tensor], *arguments: Any, **options: Any) -> Any:
        sizes.append(len(obs["numbers"]))
        return act(obs, *arguments, **options)

    policy.agent.act = counting
    with running_server() as server:
        result = asyncio.run(
            play_match(
                functools.partial(PolicyPlayer, policy),
                "RandomPlayer",
                64,
                battle_format="gen1ou",
                teams=load_teams("gen1ou"),
                websocket_url=server.websocket_url,
                concurrency=64,
            )
        )
    assert result.battles == 64
    assert sum(sizes) == policy.decisions
    assert max(sizes) > 8
    assert len(policy._free_rows) == 64
    cache = policy.agent.tstep_encoder.reader.cache
    assert cache.hits > 0


@pytest.mark.slow
@pytest.mark.server
def test_evaluate_prints_one_json_object(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["evaluate", "--run_dir", str(run_dir), "--format", "gen1ou", "--opponents", "RandomPlayer", "--sample"]
    assert main([*command, "--battles", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["pairs"]
    assert row["battles"] == row["wins"] + row["losses"] + row["ties"] == 4
    assert row["interval_95"][0] <= row["win_rate"] <= row["interval_95"][1]
    assert (row["player"], row["opponent"]) == ("run@1", "RandomPlayer")
    assert report["decisions_per_s"] > 0
    assert report["unknown_words"] == {}


def test_batched_decisions_equal_those_made_alone(run_dir: Path, battle_file: Path) -> None:
    """Three battles in one policy, two of them a step behind each other, against each battle alone in a fresh one."""
    from gemma_metamon.battle.replays import load_battle

    states = load_battle(battle_file).states[:14]  # beyond max_seq_len = 12
    legal = torch.ones(13, dtype=torch.bool).numpy()

    async def together() -> list[list[int]]:
        policy = load_policy(run_dir)
        sessions = [policy.open_session() for _ in range(3)]
        actions: list[list[int]] = [[], [], []]
        for t in range(len(states) + 2):
            acting = [i for i in range(3) if 0 <= t - i < len(states)]
            chosen = await asyncio.gather(*(policy.decide(sessions[i], states[t - i], legal) for i in acting))
            for i, action in zip(acting, chosen, strict=True):
                actions[i].append(action)
        return actions

    async def alone() -> list[int]:
        policy = load_policy(run_dir)
        session = policy.open_session()
        return [await policy.decide(session, state, legal) for state in states]

    expected = asyncio.run(alone())
    assert asyncio.run(together()) == [expected] * 3


def test_a_step_that_fails_reaches_the_battle_that_waits(run_dir: Path, battle_file: Path) -> None:
    from gemma_metamon.battle.replays import load_battle

    policy = load_policy(run_dir)
    policy.agent.act = functools.partial(_fail)
    state = load_battle(battle_file).states[0]
    with pytest.raises(RuntimeError, match="out of memory"):
        asyncio.run(policy.decide(policy.open_session(), state, torch.ones(13, dtype=torch.bool).numpy()))


def _fail(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("out of memory")


def test_more_battles_than_memory_is_an_error_that_names_the_mend(run_dir: Path) -> None:
    policy = load_policy(run_dir)
    for _ in range(16):
        policy.open_session()
    with pytest.raises(ServerError, match="raise max_battles"):
        policy.open_session()


def test_a_damaged_checkpoint_is_refused(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "run" / "ckpts" / "epoch_1"
    folder.mkdir(parents=True)
    source = Checkpoint(run_dir, 1).folder
    for name in (META, WEIGHTS):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / META).write_text('{"epoch": 1}')
    assert main(["evaluate", "--run_dir", str(tmp_path / "run")]) == 1
    assert "no description of a run" in capsys.readouterr().err
    (folder / META).write_bytes((source / META).read_bytes())
    (folder / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes()[:5000])
    assert main(["evaluate", "--run_dir", str(tmp_path / "run")]) == 1
    assert "weights.safetensors is damaged" in capsys.readouterr().err


def test_a_view_survives_its_checkpoint(run_dir: Path) -> None:
    view: BattleView = Checkpoint.find(run_dir, 1).read_meta().view()
    assert (view.obs_space.name, view.action_space.n) == ("TeamPreviewObservationSpace", 13)
