"""`gemma-metamon explain`: a page of a recorded battle as an agent reads it, and of what it would have done."""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gemma_metamon.commands._arguments import add_shared_argument, require_place
from gemma_metamon.commands._formats import warn_of_a_strange_format
from gemma_metamon.commands._words_players import SEES, WORDS, with_kind
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.battle.replays import RecordedBattle
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.explain.follow import Setting, Shown
    from gemma_metamon.explain.page import Explanation

EXAMPLE = """examples:
  gemma-metamon explain BATTLE.json.lz4 --run_dir runs/first@3 --out battle.html
  gemma-metamon explain BATTLE.json.lz4 --run_dir "text:runs/words(reasoning=yes)"
  gemma-metamon explain BATTLE.json.lz4 --run_dir vlm:runs/eyes
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon explain` with its flags."""
    parser = subparsers.add_parser(
        "explain",
        help="show a recorded battle through an agent's eyes, as a web page",
        description="Write a web page that stands alone: of each decision the words as Gemma sees them, which of them "
        "the readout attended to, the probability of each action, and what each critic expects; of a model that "
        "answers in words the chat or the picture, what it thought, and how probable it finds each choice.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("battle", type=Path, metavar="BATTLE", help="a battle file, .json.lz4 or .json")
    parser.add_argument(
        "--run_dir",
        required=True,
        help="a run of `train` (save_dir/run_name, or save_dir/run_name@EPOCH), or a chat model of `sft` or `vlm "
        "train`, written as it plays: text:RUN, vlm:RUN",
    )
    add_shared_argument(parser, "ckpt", help="the epoch of a run without @EPOCH (default: the last)")
    parser.add_argument("--out", type=Path, help="the page (default: named after the battle, in this folder)")
    add_shared_argument(parser, "temperature", help="of a run without @T (default: %(default)s)")
    add_shared_argument(parser, "device")
    add_shared_argument(parser, "json", help="print all that the page shows as one JSON object, too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the page of a battle and prints what it says in short. Returns the exit status."""
    if args.out is not None and args.out.is_dir():
        raise ConfigError(f"--out {args.out} is a folder; name the page, as in {args.out / 'battle.html'}")
    require_extra("report", "explain")

    from gemma_metamon.atomic_files import written_whole
    from gemma_metamon.battle.replays import BattleFileName, battle_stem, load_battle
    from gemma_metamon.errors import DataError
    from gemma_metamon.explain.page import Explanation, render_page, result_of
    from gemma_metamon.progress import progress_bar

    battle = load_battle(args.battle)
    name, player, opponent = battle_stem(args.battle.name), "recorded player", "opponent"
    try:
        parts = BattleFileName.parse(args.battle.name)
    except DataError:
        page = args.out or Path(f"{name}.html")
    else:
        name, player, opponent = parts.battle_id, parts.player, parts.opponent
        page = args.out or Path(f"{name}-{player}.html")
    args.run_dir = with_kind(args.run_dir)
    follow = _follow_words if args.run_dir.startswith((WORDS, SEES)) else _follow_agent
    agent, setting, decisions = follow(args, battle, page)
    explanation = Explanation(
        battle=name,
        battle_format=battle.states[0].format,
        player=player,
        opponent=opponent,
        agent=agent,
        result=result_of(battle.states[-1]),
        setting=setting,
        decisions=list(progress_bar(decisions, desc="reading", unit="decision", total=len(battle.states) - 1)),
    )
    with written_whole(page) as staged:
        staged.write_text(render_page(explanation), encoding="utf-8")
    print(
        json.dumps({"page": str(page), **dataclasses.asdict(explanation)}) if args.json else summary(explanation, page)
    )
    return 0


Followed: TypeAlias = "tuple[str, Setting | None, Iterator[Shown]]"
"""Its label, what is the same at every decision, and the decisions."""


def _follow_agent(args: argparse.Namespace, battle: "RecordedBattle", page: Path) -> Followed:
    from gemma_metamon.commands._players import find_run
    from gemma_metamon.explain.follow import Follower, follow_recorded
    from gemma_metamon.runs.loading import load_for_play

    run = find_run(args.run_dir, args.ckpt)
    temperature = args.temperature if run.temperature is None else run.temperature
    if temperature == 0:
        raise ConfigError(f"{args.run_dir}: at temperature 0 no probabilities are left to show; leave @T0 out")
    require_place(page, "out")
    warn_of_a_strange_format(run.checkpoint, battle.states[0].format)
    playable = load_for_play(run.checkpoint, args.device)
    follower = Follower(playable.agent, playable.view, temperature=temperature)
    return run.checkpoint.label, follower.setting(), follow_recorded(follower, battle)


def _follow_words(args: argparse.Namespace, battle: "RecordedBattle", page: Path) -> Followed:
    from gemma_metamon.commands._player_labels import words_label
    from gemma_metamon.commands._players import find_players

    (found,) = find_players([args.run_dir], args.ckpt)
    if found.temperature is not None or args.temperature != 1:
        raise ConfigError(f"{args.run_dir} is shown as sure as it is; leave out --temperature and @T")
    require_place(page, "out")
    from gemma_metamon.language.models.answering import Answerer
    from gemma_metamon.language.models.chat_model import load
    from gemma_metamon.language.models.followed import follow_in_words
    from gemma_metamon.language.models.scoring import ChoiceScorer
    from gemma_metamon.language.training.fine_tuning import read_form, run_of
    from gemma_metamon.runs.loading import usable_device

    folder = found.words
    if folder is None:
        raise ConfigError(f"{args.run_dir} is no chat model; write it as in text:RUN")
    if found.sees:
        from gemma_metamon.vision import models as seeing
        from gemma_metamon.vision.players.followed import follow_by_sight
        from gemma_metamon.vision.players.seeing import SeeingPolicy

        policy = SeeingPolicy(
            seeing.load(folder, usable_device(args.device)), name=words_label(found), sprites=found.sprites
        )
        return words_label(found), None, follow_by_sight(policy, battle)
    form = read_form(run_of(folder)[0])
    answerer = Answerer(ChoiceScorer(load(folder, usable_device(args.device))), found.thinking)
    return words_label(found), None, follow_in_words(answerer, form, battle)


def summary(explanation: "Explanation", page: Path) -> str:
    """What the command prints of a page."""
    return (
        f"{explanation.player} vs {explanation.opponent} ({explanation.battle_format}), {explanation.result}: "
        f"{len(explanation.decisions)} decisions, the agent's most probable action was taken in {explanation.agreed} "
        f"of {explanation.recorded}\n"
        f"wrote {page}; open it in a browser"
    )
