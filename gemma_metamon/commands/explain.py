"""`gemma-metamon explain`: a page of a recorded battle as an agent reads it, and of what it would have done."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, require_place
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.explain.page import Explanation

EXAMPLE = "example: gemma-metamon explain BATTLE.json.lz4 --run_dir runs/first --out battle.html"


def add_parser(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "explain",
        help="show a recorded battle through an agent's eyes, as a web page",
        description="Write a web page that stands alone: of each decision the words as Gemma sees them, which of them "
        "the readout attended to, the probability of each action, and what each critic expects.",
        epilog=EXAMPLE,
    )
    parser.add_argument("battle", type=Path, metavar="BATTLE", help="a battle file, .json.lz4 or .json")
    parser.add_argument("--run_dir", type=Path, required=True, help="a run of `train`: save_dir/run_name")
    add_shared_argument(parser, "ckpt")
    parser.add_argument("--out", type=Path, help="the page (default: named after the battle, in this folder)")
    add_shared_argument(parser, "temperature")
    add_shared_argument(parser, "device")
    add_shared_argument(parser, "json", help="print all that the page shows as one JSON object, too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.out is not None and args.out.is_dir():
        raise ConfigError(f"--out {args.out} is a folder; name the page, as in {args.out / 'battle.html'}")
    require_extra("report", "explain")

    from gemma_metamon.atomic_files import written_whole
    from gemma_metamon.battle.replays import BattleFileName, battle_stem, load_battle
    from gemma_metamon.errors import DataError
    from gemma_metamon.explain.follow import Follower, follow_recorded
    from gemma_metamon.explain.page import Explanation, render_page, result_of
    from gemma_metamon.nets.agents.acting import prepare_to_act
    from gemma_metamon.progress import progress_bar
    from gemma_metamon.runs import checkpoints

    battle = load_battle(args.battle)
    name, player, opponent = battle_stem(args.battle.name), "recorded player", "opponent"
    try:
        parts = BattleFileName.parse(args.battle.name)
    except DataError:
        page = args.out or Path(f"{name}.html")
    else:
        name, player, opponent = parts.battle_id, parts.player, parts.opponent
        page = args.out or Path(f"{name}-{player}.html")
    checkpoint = checkpoints.find_checkpoint(args.run_dir, args.ckpt)
    require_place(page, "out")
    agent, meta = checkpoints.load_agent(checkpoint, args.device)
    prepare_to_act(agent)  # as `evaluate` and `ladder` do
    follower = Follower(agent, meta.view(), temperature=args.temperature)
    decisions = follow_recorded(follower, battle)
    explanation = Explanation(
        battle=name,
        battle_format=battle.states[0].format,
        player=player,
        opponent=opponent,
        agent=f"{args.run_dir.resolve().name}, epoch {meta.epoch}",
        result=result_of(battle.states[-1]),
        setting=follower.setting(),
        decisions=list(progress_bar(decisions, desc="reading", unit="decision", total=len(battle.states) - 1)),
    )
    with written_whole(page) as staged:
        staged.write_text(render_page(explanation), encoding="utf-8")
    print(
        json.dumps({"page": str(page), **dataclasses.asdict(explanation)}) if args.json else summary(explanation, page)
    )
    return 0


def summary(explanation: "Explanation", page: Path) -> str:
    return (
        f"{explanation.player} vs {explanation.opponent} ({explanation.battle_format}), {explanation.result}: "
        f"{len(explanation.decisions)} decisions, the agent's most probable action was taken in {explanation.agreed} "
        f"of {explanation.recorded}\n"
        f"wrote {page}; open it in a browser"
    )
