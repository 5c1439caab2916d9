"""Milliseconds of a fork and of a turn in it: with the true team, and with a sampled one, alternating.

    python scripts/bench_forks.py --formats gen1ou gen9ou --forks 200

Forks are taken for p1 at every decision of battles in which both seats make the first legal choice; a turn in a fork is
the same, and what the seats are told of it. The times are of the processors, Node's and Python's: means over all forks.
Of a sampled fork, Python's holds reading what the seat was told and guessing the team.
"""

import argparse
import random
import time

from bench_arena import node_seconds
from check_forks import ALL, Checks
from poke_env.battle import Battle

from gemma_metamon.showdown.arena.arena import Arena, Seat
from gemma_metamon.showdown.arena.hidden import TRUTH
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.matches.forks import fork_for
from gemma_metamon.showdown.simulator.teams import load_teams

KINDS = ("true team", "sampled team")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", default=["gen1ou", "gen9ou"])
    parser.add_argument("--forks", type=int, default=200, help="of each kind (default: %(default)s)")
    args = parser.parse_args()
    print(f"{'':10}{'':14}{'fork: Node ms':>15}{'Python ms':>11}{'turn: Node ms':>15}{'Python ms':>11}")
    with Arena() as arena:
        for name in args.formats:
            for kind, times in measure(arena, name, args.forks).items():
                print(f"{name:10}{kind:14}{times[0]:15.2f}{times[1]:11.2f}{times[2]:15.2f}{times[3]:11.2f}")


def measure(arena: Arena, battle_format: str, n_forks: int) -> dict[str, list[float]]:
    """For each kind: Node's and Python's ms of a fork, then of a turn."""
    checks = Checks(arena, battle_format)
    sums = {kind: [0.0] * 4 for kind in KINDS}
    done = number = 0
    while done < n_forks:
        number += 1
        tag, draws = f"battle-{battle_format}-{number}", dice(number, "bench")
        first, second = draws.choices(load_teams(battle_format), k=2)
        seats = Seat(name="Ann", team=first), Seat(name="Bob", team=second)
        arena.start(tag, battle_format=battle_format, seed=simulator_seed(number), seats=seats)
        ann = ArenaSeat(tag, checks.player, random.Random(0))
        while tag in arena.battles and done < n_forks:
            for news in arena.receive(at_least=ALL):
                ann.read(news.told.get("p1", ()))
            if ann.is_asked and not ann.battle.teampreview and tag in arena.battles:
                for kind in KINDS:
                    for i, ms in enumerate(_time(arena, ann.battle, checks, kind, done)):
                        sums[kind][i] += ms / n_forks
                done += 1
            for seat in ("p1", "p2"):
                arena.send(tag, seat, "/choose default")
            ann.is_asked = False
        arena.drop(tag)
    return sums


def _time(arena: Arena, battle: Battle, checks: Checks, kind: str, seed: int) -> list[float]:
    at = [node_seconds(arena), time.process_time()]
    if kind == "true team":
        arena.fork(battle.battle_tag, "fork", seat="p1", seed=simulator_seed(seed), hidden=TRUTH)
    else:
        fork_for(arena, battle, "fork", sampler=checks.sampler, seed=seed)
    arena.receive(at_least=ALL)
    at += [node_seconds(arena), time.process_time()]
    for seat in ("p1", "p2"):
        arena.send("fork", seat, "/choose default")
    arena.receive(at_least=ALL)
    at += [node_seconds(arena), time.process_time()]
    arena.drop("fork")
    arena.receive(at_least=ALL)
    return [1000 * (at[i + 2] - at[i]) for i in range(4)]


if __name__ == "__main__":
    main()
