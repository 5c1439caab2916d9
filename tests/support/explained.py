"""Small agents whose decisions are explained, in a recorded battle and in play."""

import asyncio
from pathlib import Path
from typing import Any

import torch
from support.small_agent import SMALL, TINY

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.explain.follow import Follower, follow_recorded
from gemma_metamon.explain.page import Explanation
from gemma_metamon.runs import resolve
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.evaluate import play_match
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, PolicyPlayer
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import load_teams
from gemma_metamon.view import BattleView

ENTITY = "GemmaTstepEncoder.granularity = 'entity'"


def build_agent(view: BattleView, *overrides: str, training: str = "binary_rl.gin") -> Any:
    resolve.load(TINY, training, [*SMALL, *overrides])
    torch.manual_seed(0)
    return configurable(EXPERIMENT)().build_agent(view).eval()


def explain(agent: Any, view: BattleView, battle_file: Path, **changed: Any) -> Explanation:
    follower = Follower(agent, view)
    explanation = {
        "battle": "b",
        "battle_format": "gen9ou",
        "player": "Ann",
        "opponent": "Bob",
        "agent": "first, epoch 1",
        "result": "won",
        "setting": follower.setting(),
        "decisions": list(follow_recorded(follower, load_battle(battle_file))),
    }
    return Explanation(**explanation | changed)


def play(policy: BatchedPolicy, observer: Any, n_battles: int, *, concurrency: int = 1) -> list[Any]:
    records: list[Any] = []

    def build(**options: Any) -> PolicyPlayer:
        player = PolicyPlayer(policy, observer=observer, **options)
        open_door(player).record(Recorder(lambda battle, record: records.append(record)))
        return player

    with running_server() as server:
        asyncio.run(
            play_match(
                build,
                "RandomPlayer",
                n_battles,
                battle_format="gen1ou",
                teams=load_teams("gen1ou"),
                websocket_url=server.websocket_url,
                concurrency=concurrency,
            )
        )
    policy._worker.shutdown(wait=True)  # what is done aside is done
    return records
