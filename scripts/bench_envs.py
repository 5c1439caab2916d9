"""What a step of the environments costs: one battle, many in one arena, and as many environments of their own.

    python scripts/bench_envs.py --steps 2000

Alternating, medians of the rounds; milliseconds of the wall and of the processor, Node's (its start included) beside
Python's. The actions are random legal ones, the opponent is RandomPlayer.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv

from gemma_metamon.envs.battle_env import BattleEnv
from gemma_metamon.envs.vector_env import VectorBattleEnv


def ways(n: int, battle_format: str) -> dict[str, Callable[[], Any]]:
    """By name, how to make each environment."""

    def single() -> BattleEnv:
        return BattleEnv(battle_format)

    return {
        "BattleEnv": lambda: SyncVectorEnv([single]),
        f"{n} BattleEnvs": lambda: SyncVectorEnv([single] * n),
        f"VectorBattleEnv of {n}, 1 worker": lambda: VectorBattleEnv(n, battle_format),
        f"VectorBattleEnv of {n}, 2 workers": lambda: VectorBattleEnv(n, battle_format, workers=2),
    }


def node_seconds() -> float:
    """Of the processor, of children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def step_costs(env: Any, steps: int) -> tuple[float, float, float]:
    """Milliseconds a step: of the wall, of the processor in Python, and in Node."""
    draws = np.random.default_rng(0)
    before = node_seconds()
    _, infos = env.reset(seed=0)
    began, python_before = time.perf_counter(), time.process_time()
    for _ in range(steps // env.num_envs):
        scores = infos["action_mask"] * draws.random(infos["action_mask"].shape)
        *_, infos = env.step(scores.argmax(axis=1))
    wall, python = time.perf_counter() - began, time.process_time() - python_before
    env.close()
    return wall / steps * 1000, python / steps * 1000, (node_seconds() - before) / steps * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen1ou")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--battles", type=int, default=16, help="at once, where there are many")
    args = parser.parse_args()
    measured = ways(args.battles, args.format)
    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in measured}
    for _ in range(args.rounds):
        for name, make in measured.items():
            costs[name].append(step_costs(make(), args.steps))
    print(f"{'ms a step':<32}{'wall':>8}{'Python':>8}{'Node':>8}{'steps/s':>10}")
    for name, rounds in costs.items():
        wall, python, node = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:<32}{wall:>8.2f}{python:>8.2f}{node:>8.2f}{1000 / wall:>10.0f}")


if __name__ == "__main__":
    main()
