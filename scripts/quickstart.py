"""The quickstart: train gemma_tiny on the bundled gen1ou battles, then let it play, beside two controls.

    bash scripts/quickstart.sh                     # makes the environment and runs this
    python scripts/quickstart.py --updates 20 --battles 10 --save_dir /tmp/runs

Everything is kept in one run folder: checkpoints, metrics, and report.json, which is also the last line printed.
"""

import argparse
import asyncio
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gemma_metamon import sample_battles
from gemma_metamon.battle.observation_space import BLANK
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.commands import main as gemma_metamon
from gemma_metamon.data.encoding import is_held_out
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_for_play
from gemma_metamon.showdown.matches.evaluate import play_match
from gemma_metamon.showdown.matches.tallies import Tally
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, PolicyPlayer
from gemma_metamon.showdown.players.registry import NoSwitchRandomPlayer
from gemma_metamon.showdown.simulator.teams import load_teams
from gemma_metamon.training.agreement import Agreement, measure_agreement
from gemma_metamon.training.diagnostics import read_held_out

BATTLE_FORMAT = "gen1ou"
OPPONENTS = ("RandomPlayer", "MaxBasePowerPlayer")
HOLDOUT_SHARE = 0.05
CONCURRENCY = 20
AGENT, UNTRAINED, NO_SWITCH = "agent", "untrained network", "random moves, no switching"


def train(args: argparse.Namespace) -> Path:
    run_name = time.strftime("quickstart-%Y%m%d-%H%M%S")
    command = ["train", "--run_name", run_name, "--save_dir", str(args.save_dir), "--formats", BATTLE_FORMAT]
    command += ["--model_gin_config", "gemma_tiny_entity.gin", "--train_gin_config", "quick.gin"]
    command += ["--epochs", "1", "--steps_per_epoch", str(args.updates), "--batch_size_per_gpu", "16"]
    command += ["--holdout_share", str(HOLDOUT_SHARE), "--seed", str(args.seed)]
    print(f"$ gemma-metamon {' '.join(command)}", file=sys.stderr)
    if gemma_metamon(command) != 0:
        raise SystemExit(
            f"quickstart: training did not end, see above; what it saved is in {args.save_dir / run_name}. "
            "Run again, the quickstart begins anew (--updates 100 --battles 20 is a short one)"
        )
    return args.save_dir / run_name


def held_out_agreement(agent: Any, run_dir: Path, *, blank_text: bool) -> Agreement:
    files = find_battles(sample_battles.extract(BATTLE_FORMAT), [BATTLE_FORMAT])
    held_out = [path for path in files if is_held_out(path, HOLDOUT_SHARE)]
    view = Checkpoint.find(run_dir).read_meta().view()
    blank = int(view.vocabulary.encode([BLANK])[0]) if blank_text else None
    beginnings = [battle.window for battle in read_held_out(held_out, view, agent.options.max_seq_len)]
    result = measure_agreement(agent, beginnings, blank=blank)
    if result is None:
        raise SystemExit("quickstart: no held-out battle holds a known choice")
    return result


async def play_all(players: dict[str, Callable[..., Any]], battles: int, seed: int) -> dict[tuple[str, str], Tally]:
    results = {}
    for name, build_player in players.items():
        for opponent in OPPONENTS:
            print(f"{battles} battles: {name} against {opponent}", file=sys.stderr)
            results[name, opponent] = await play_match(
                build_player,
                opponent,
                battles,
                battle_format=BATTLE_FORMAT,
                teams=load_teams(BATTLE_FORMAT),
                seed=seed,
                concurrency=CONCURRENCY,
            )
    return results


def policy_player(run_dir: Path, epoch: int, *, sample: bool, seed: int) -> tuple[Callable[..., Any], Any]:
    playable = load_for_play(Checkpoint.find(run_dir, epoch), "cpu")
    policy = BatchedPolicy(playable.agent, playable.view, max_battles=2 * CONCURRENCY, sample=sample, seed=seed)
    return functools.partial(PolicyPlayer, policy), playable.agent


def print_tables(results: dict[tuple[str, str], Tally], trained: Agreement, blanked: Agreement, updates: int) -> None:
    print(f"\nBattles won in {BATTLE_FORMAT}, with 95 % intervals:")
    print(f"{'':28}" + "".join(f"{opponent:>30}" for opponent in OPPONENTS))
    for name in dict.fromkeys(player for player, _ in results):
        cells = []
        for opponent in OPPONENTS:
            result = results[name, opponent]
            low, high = result.interval
            cells.append(f"{result.wins}/{result.battles} ({low:.0%} to {high:.0%})")
        print(f"{name:28}" + "".join(f"{cell:>30}" for cell in cells))
    print(f"\nAgreement with {trained.decisions} held-out recorded actions, after {updates} updates:")
    print(f"{'as trained':28}{trained.agreement:>30.1%}")
    print(f"{'with the text blanked':28}{blanked.agreement:>30.1%}")
    print(f"{'most frequent action':28}{trained.majority:>30.1%}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=Path("runs"), help="(default: %(default)s)")
    parser.add_argument("--updates", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=100, help="per player and opponent (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    args = parser.parse_args()
    started = time.perf_counter()
    run_dir = train(args)
    train_seconds = time.perf_counter() - started

    agent_player, agent = policy_player(run_dir, 1, sample=False, seed=args.seed)
    # greedy, a random network would name the same action for ever; its draws are the stronger control
    untrained_player, _ = policy_player(run_dir, 0, sample=True, seed=args.seed)
    trained = held_out_agreement(agent, run_dir, blank_text=False)
    blanked = held_out_agreement(agent, run_dir, blank_text=True)
    players = {AGENT: agent_player, UNTRAINED: untrained_player, NO_SWITCH: NoSwitchRandomPlayer}
    results = asyncio.run(play_all(players, args.battles, args.seed))
    print_tables(results, trained, blanked, args.updates)
    report = {
        "win_rate": results[AGENT, OPPONENTS[0]].win_rate,
        "win_rate_maxbasepower": results[AGENT, OPPONENTS[1]].win_rate,
        "untrained_maxbasepower": results[UNTRAINED, OPPONENTS[1]].win_rate,
        "noswitch_maxbasepower": results[NO_SWITCH, OPPONENTS[1]].win_rate,
        "agreement": round(trained.agreement, 4),
        "agreement_blank_text": round(blanked.agreement, 4),
        "agreement_majority": round(trained.majority, 4),
        "battles": args.battles,
        "updates": args.updates,
        "train_seconds": round(train_seconds, 1),
        "total_seconds": round(time.perf_counter() - started, 1),
    }
    (run_dir / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(f"kept in {run_dir}")
    print(json.dumps(report))


if __name__ == "__main__":
    try:
        main()
    except GemmaMetamonError as error:
        raise SystemExit(f"quickstart: {error}") from error
