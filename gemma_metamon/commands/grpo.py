"""`gemma-metamon grpo`: a chat model learns from what its own answers earn."""

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    made_folder,
    refuse_void,
    share,
    zero_or_above,
)
from gemma_metamon.commands._ending import signals_noted
from gemma_metamon.commands._fine_tuning import (
    add_learning_arguments,
    add_run_arguments,
    check_log,
    learning_arguments,
)
from gemma_metamon.commands._words_players import SEES, WORDS
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.language.data.chats import Chat
    from gemma_metamon.language.players.episodes import Episodes
    from gemma_metamon.language.training.grpo import Reinforced
    from gemma_metamon.vision.reinforced import Seen

EXAMPLE = """example:
  gemma-metamon grpo --data gen1ou.jsonl --val gen1ou.validation.jsonl --model runs/words --out runs/words_grpo
  gemma-metamon grpo --data gen1ou.jsonl --model runs/words@3 --out runs/critics --reward format legality advantage=0.5
  gemma-metamon grpo --environment --format gen1ou --opponents MaxBasePowerPlayer SimpleHeuristicsPlayer \\
      --model runs/words --out runs/words_played --num_generations 8 --turns 4 --batch_size 256 --max_updates 100
Each prompt is answered --num_generations times, and what earns more than the others becomes more probable. Rewards:
  format       1 for exactly one SOLUTION block, 1 more for one REASONING block where the chats ask for reasoning
  legality     1 for a legal choice
  correctness  2 for the choice of the data
  advantage    what critics give the choice above the mean, within -2 and 2; of data of `chat export --critics RUN`
  length       0 up to 40 words, down to -1 at 80
  battle       with --environment: what --reward_function gave from the answer on, a win counting 1
  module:function   your own, f(answer: str, chat: Chat) -> float | None
With --environment the model plays whole battles in place of answering --data: a group is --num_generations battles with
the same teams and the same opponent, and --turns answers of each are learned from.
Of data of `vlm export` the language layers of a model that sees learn (--model a run of `vlm train`); so it is told by
form.json beside the data. The rewards are the same, format that of one JSON object.
Begin with a model that `sft` has taught the form: one that never earns anything learns nothing."""


# flag of --environment -> its default
_OF_BATTLES = {
    "format": "gen1ou",
    "opponents": ["MaxBasePowerPlayer"],
    "reward_function": "DefaultShapedReward",
    "discount": 0.95,
    "turns": 1,
    "team_dir": None,
}


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon grpo` with its flags."""
    parser = subparsers.add_parser(
        "grpo",
        help="let a language model learn from rewards of its own answers",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="chats whose prompts are answered, of `chat export`")
    parser.add_argument("--environment", action="store_true", help="play battles instead, see below")
    parser.add_argument("--val", type=Path, help="held-out chats, looked at before and each --keep_every updates")
    parser.add_argument(
        "--model",
        required=True,
        help="what it begins with: RUN or RUN@EPOCH of sft or grpo, or a hub name or folder as of sft",
    )
    parser.add_argument("--out", type=Path, required=True, help="the run's folder, which `text:OUT` plays")
    parser.add_argument("--resume", action="store_true", help="go on after what --out has kept")
    parser.add_argument("--full", action="store_true", help="train all weights of a pretrained --model, not adapters")
    rewards = parser.add_argument_group("what is rewarded")
    rewards.add_argument(
        "--reward",
        nargs="+",
        metavar="NAME[=WEIGHT]",
        help="see below; without a weight it is 1 (default: format legality correctness; of battles: battle legality)",
    )
    rewards.add_argument("--num_generations", type=at_least_one, default=4, help="answers of a group (default: 4)")
    rewards.add_argument("--temperature", type=above_zero, default=1.0, help="of their draw (default: %(default)s)")
    rewards.add_argument(
        "--answer_subwords", type=at_least_one, help="of an answer at most (default: 32, with reasoning 256)"
    )
    rewards.add_argument("--vllm", action="store_true", help="draw them with vLLM; needs CUDA and vllm")
    battles = parser.add_argument_group("which battles, with --environment")
    battles.add_argument("--format", default=_OF_BATTLES["format"], help="default: %(default)s")
    battles.add_argument(
        "--opponents",
        nargs="+",
        default=_OF_BATTLES["opponents"],
        metavar="PLAYER",
        help="drawn among for each group (default: MaxBasePowerPlayer)",
    )
    battles.add_argument(
        "--reward_function",
        default=_OF_BATTLES["reward_function"],
        help="of each decision and the result; see gemma-metamon train (default: %(default)s)",
    )
    battles.add_argument(
        "--discount",
        type=share,
        default=_OF_BATTLES["discount"],
        help="what a reward counts one decision later (default: %(default)s)",
    )
    battles.add_argument(
        "--turns",
        type=at_least_one,
        default=_OF_BATTLES["turns"],
        help="answers of a battle that are learned from (default: %(default)s)",
    )
    for name in ("concurrency", "team_dir", "workers", "timeout_s"):
        add_shared_argument(battles, name)
    how = parser.add_argument_group("how it learns")
    how.add_argument(
        "--loss_type", choices=("dr_grpo", "grpo", "dapo", "bnpo"), default="dr_grpo", help="default: %(default)s"
    )
    how.add_argument(
        "--beta", type=zero_or_above, default=0.0, help="price of the distance (KL) to --model (default: none)"
    )
    add_learning_arguments(
        how,
        batch_size=16,
        batches_of="answers at a time, whole groups",
        rates="2e-4 of a tiny model, 2e-5 of adapters, 1e-6 of a whole pretrained one",
        warmup_updates=10,
        seeds="of the draws and the chats' order",
    )
    how.add_argument(
        "--keep_every", type=at_least_one, default=100, help="updates to an epoch: kept, measured (default: 100)"
    )
    add_run_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains, and prints what was measured. Returns the exit status."""
    require_extra("language", "grpo")
    check_log(args)
    if (args.data is None) != args.environment:
        raise ConfigError("give --data, whose prompts are answered, or --environment, to play battles; not both")
    if args.environment:
        refuse_void(
            args, {"epochs": 1}, "battles have no end of their own, and --max_updates says how many updates are made"
        )
        require_extra("battle", "grpo --environment")
    else:
        refuse_void(args, _OF_BATTLES, "without --environment no battle is played")
    from gemma_metamon.language.training.grpo import train
    from gemma_metamon.language.training.grpo_trainer import GRPOSettings
    from gemma_metamon.language.training.rewards import BATTLE_DEFAULTS, DEFAULTS, read_weights
    from gemma_metamon.runs.loading import usable_device

    settings = GRPOSettings(
        num_generations=args.num_generations,
        turns=args.turns,
        temperature=args.temperature,
        answer_subwords=args.answer_subwords,
        loss_type=args.loss_type,
        beta=args.beta,
        keep_every=args.keep_every,
        vllm=args.vllm,
        **learning_arguments(args),
    )
    weights = read_weights(args.reward or (BATTLE_DEFAULTS if args.environment else DEFAULTS))
    device = usable_device(args.device)
    chats, held_out, sight = _decisions(args)
    with ExitStack() as stack:
        battles = stack.enter_context(_battles(args)) if args.environment else None
        stack.enter_context(made_folder(args.out, "out"))
        reinforced = train(
            args.model,
            settings,
            weights,
            chats,
            held_out,
            args.out,
            device=device,
            battles=battles,
            sight=sight,
            full=args.full,
            resume=args.resume,
            wandb=args.log,
            signals=signals_noted,
        )
    player = f"{WORDS if sight is None else SEES}{args.out}"
    print(json.dumps(asdict(reinforced)) if args.json else as_table(reinforced, player))
    return 0


def _decisions(args: argparse.Namespace) -> "tuple[list[Chat], list[Chat], Seen | None]":
    """To answer, and held out; and what is to be seen of them, where form.json beside them says that they are shown."""
    from gemma_metamon.language.data.chats import read_chats

    if args.data is None or not (args.data.parent / "form.json").is_file():
        chats, held_out = (([] if path is None else read_chats(path)) for path in (args.data, args.val))
        return chats, held_out, None
    require_extra("vision", "grpo on pictures")
    if args.full or args.vllm:
        raise ConfigError("of a model that sees adapters learn, and TRL draws; leave out --full and --vllm")
    from gemma_metamon.vision.chats import read_sets
    from gemma_metamon.vision.reinforced import Seen

    seen, tested, form = read_sets(args.data, args.val)
    return [each.chat for each in seen], [each.chat for each in tested], Seen(seen, tested, form)


@contextmanager
def _battles(args: argparse.Namespace) -> "Iterator[Episodes]":
    """Whoever plays them, in an arena of its own."""
    from gemma_metamon.battle.rewards import get_reward_function
    from gemma_metamon.commands._players import contestants, find_players
    from gemma_metamon.language.players.episodes import Episodes
    from gemma_metamon.language.training.fine_tuning import read_form
    from gemma_metamon.runs.checkpoints import split_epoch
    from gemma_metamon.showdown.arena.arena import Arena
    from gemma_metamon.showdown.simulator.formats import find_teams

    reward_function = get_reward_function(args.reward_function)
    found = find_players(args.opponents)
    battle_format, teams = find_teams(args.format, args.team_dir)
    opponents = contestants(
        found,
        device=args.device,
        sample=True,
        temperature=1.0,
        max_battles=2 * args.concurrency,
        seed=args.seed,
        teams=teams,
    )
    with Arena(args.workers, silence_timeout_s=args.timeout_s) as arena:
        yield Episodes(
            arena=arena,
            battle_format=battle_format,
            teams=teams,
            opponents=opponents,
            form=read_form(split_epoch(args.model)[0]),
            reward_function=reward_function,
            discount=args.discount,
            in_play=args.concurrency,
            seed=args.seed,
        )


def as_table(reinforced: "Reinforced", player: str) -> str:
    """What came of it, for people."""
    too_long = reinforced.too_long
    lines = [f"{reinforced.updates} updates; set aside as too long: {too_long[0]} chats, {too_long[1]} held out"]
    rows = {
        "perplexity": ("perplexity of held-out answers", "8.3f"),
        "agreement": ("agrees with held-out choices", "8.1%"),
        "legal_share": ("free answers that are legal", "8.1%"),
    }
    if reinforced.measured is not None:
        lines.append(f"{'':40}{'before' if reinforced.before else '':>8}{'after':>10}")
    for name, (said, how) in rows.items():
        found = [getattr(measured, name, None) for measured in (reinforced.before, reinforced.measured)]
        if found[1] is not None:
            numbers = ["" if number is None else format(number, how) for number in found]
            lines.append(f"{said:40}{numbers[0]:>8}  {numbers[1]:>8}")
    return "\n".join([*lines, f"play it as {player}"])
