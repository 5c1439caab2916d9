"""What a decision in a live battle costs beside the network: `python scripts/bench_decision.py [--json]`.

Recorded messages of seven battles (tests/goldens/live) are fed to poke-env, one battle after the other. At each request
a PolicyPlayer with an agent of one narrow layer decides, through the door, with a recorder attached; no server takes
part. Clocked is the CPU time of two threads, which a busy machine lengthens less than the wall clock's: the loop's,
where the battle is derived, put into words, decided and recorded, and the policy's, where the network runs. The share
of both that is the loop's is a ratio within one pass; the figures are medians over the passes. How often each
derivation is computed per decision is counted in a pass of its own, under cProfile.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tiny_agent import OVERRIDES

from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.nets.agents.acting import prepare_to_act
from gemma_metamon.runs import resolve
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, PolicyPlayer
from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.view import BattleView

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.live_goldens import FORMATS, decisions

# a derivation -> the functions that make it, by file and name, those of former versions included
DERIVATIONS = {
    "state": {("state.py", "battle_state"), ("state.py", "read")},
    "options": {("orders.py", "_options"), ("orders.py", "legal_options")},
    "messages read by a memory": {("memory.py", "_read_message")},
    "translated by as_sent": {("orders.py", "as_sent")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=7, help="through all battles (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = build_policy()
    asyncio.run(play_through(policy))  # fills caches of texts and of poke-env's data
    passes = [asyncio.run(play_through(policy)) for _ in range(args.passes)]
    profile = cProfile.Profile()
    profile.enable()
    counted = asyncio.run(play_through(policy))
    profile.disable()
    n = counted["decisions"]
    milliseconds = {
        name: statistics.median(1e3 * each[name] / each["decisions"] for each in passes) for name in ("loop", "network")
    }
    result: dict[str, Any] = {
        "decisions": n,
        "milliseconds": {name: round(value, 3) for name, value in milliseconds.items()},
        "share_not_network": round(
            statistics.median(each["loop"] / (each["loop"] + each["network"]) for each in passes), 4
        ),
        "per_decision": {name: round(calls / n, 2) for name, calls in count_calls(profile).items()},
        "messages_per_decision": round(counted["messages"] / n, 2),
    }
    print_table(result)
    if args.json:
        print(json.dumps(result))


def build_policy() -> BatchedPolicy:
    view = BattleView.from_names(
        obs_space="TeamPreviewObservationSpace",
        action_space="DefaultActionSpace",
        reward_function="DefaultShapedReward",
    )
    torch.manual_seed(0)
    resolve.load("gemma_tiny_multitaskagent.gin", None, OVERRIDES)
    experiment: Experiment = configurable(EXPERIMENT)()
    agent = experiment.build_agent(view).eval()
    prepare_to_act(agent, "float32")
    return BatchedPolicy(agent, view, max_battles=2)


async def play_through(policy: BatchedPolicy) -> dict[str, float]:
    """CPU seconds of the loop and of the network in all decisions; how many decisions and messages there were."""
    spent = {"loop": 0.0, "network": 0.0, "decisions": 0, "messages": 0}
    step = type(policy)._step

    def clocked(*arguments: Any) -> Any:
        started = time.thread_time()
        chosen = step(policy, *arguments)
        spent["network"] += time.thread_time() - started
        return chosen

    policy._step = clocked  # type: ignore[method-assign]
    for battle_format in FORMATS:
        player = new_player(policy, battle_format)
        for battle, _ in decisions(battle_format):
            if battle.finished:
                player._battle_finished_callback(battle)
                spent["messages"] += len(battle._replay_data)
                continue
            started = time.thread_time()
            await player.choose_move(battle)
            spent["loop"] += time.thread_time() - started
            spent["decisions"] += 1
    return spent


def new_player(policy: BatchedPolicy, battle_format: str) -> Any:
    options = connection(
        "Red", battle_format=battle_format, websocket_url="ws://localhost:1/showdown/websocket", team=None
    )
    player = PolicyPlayer(policy, start_listening=False, **options)
    open_door(player).record(Recorder(lambda battle, record: None))
    return player


def count_calls(profile: cProfile.Profile) -> Counter[str]:
    counts: Counter[str] = Counter()
    stats: Any = pstats.Stats(profile)
    for (file, _, function), (_, calls, *_) in stats.stats.items():
        for name, functions in DERIVATIONS.items():
            if (Path(file).name, function) in functions and "live" in Path(file).parts:
                counts[name] += calls
    return counts


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['decisions']} decisions, {result['messages_per_decision']} messages before each")
    print("| the loop, CPU ms per decision | the network, CPU ms | share that is not the network |")
    print("|---|---|---|")
    times = result["milliseconds"]
    print(f"| {times['loop']:.2f} | {times['network']:.2f} | {100 * result['share_not_network']:.1f} % |")
    for name, calls in result["per_decision"].items():
        print(f"{name}: {calls} per decision")


if __name__ == "__main__":
    main()
