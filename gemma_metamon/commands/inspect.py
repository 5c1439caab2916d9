"""`gemma-metamon inspect`: a recorded battle, turn by turn, as an agent sees it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, add_space_arguments, load_view

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.data.encoding import EncodedBattle

EXAMPLE = "example: gemma-metamon inspect BATTLE.json.lz4 --obs_space TeamPreviewObservationSpace --phrasing natural"


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon inspect` with its flags."""
    parser = subparsers.add_parser("inspect", help="print a recorded battle as an agent sees it", epilog=EXAMPLE)
    parser.add_argument("battle", type=Path, metavar="BATTLE", help="a battle file, .json.lz4 or .json")
    add_space_arguments(parser)
    parser.add_argument(
        "--phrasing", default="natural", help="natural: display names; raw: the words themselves (default: %(default)s)"
    )
    add_shared_argument(parser, "json", help="print one JSON object with lists over timesteps")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a battle timestep by timestep, or as JSON. Returns the exit status."""
    from gemma_metamon.battle.replays import MISSING_ACTION, load_battle
    from gemma_metamon.data.encoding import encode_recorded
    from gemma_metamon.text.phrases import join_phrases

    view = load_view(args)
    battle = load_battle(args.battle)
    encoded = encode_recorded(battle, view)
    words = view.obs_space.observe_battle(battle.states)[0].tolist()
    text = [join_phrases(turn, args.phrasing, view.vocabulary) for turn in words]
    if args.json:
        actions = encoded.actions[:-1]
        print(
            json.dumps(
                {
                    "words": words,
                    "text": text,
                    "numbers": encoded.numbers.tolist(),
                    "rewards": encoded.rewards[:-1].tolist(),
                    "chosen": actions.tolist(),
                    "legal": encoded.legal_actions[:-1].tolist(),
                    "missing": (actions == MISSING_ACTION).tolist(),
                }
            )
        )
        return 0
    for t in range(len(text)):
        print_timestep(encoded, " ".join(words[t]), text[t], t)
    return 0


def print_timestep(battle: "EncodedBattle", words: str, text: str, t: int) -> None:
    """What the agent sees at timestep t, with `text` as Gemma reads it, and what was chosen there."""
    at_end = t == battle.n_decisions
    print(f"== timestep {t}" + (" (the end: nothing is chosen)" if at_end else ""))
    print(f"words    {words}")
    print(f"text     {text}")
    print(f"numbers  {' '.join(f'{number:g}' for number in battle.numbers[t].round(4))}")
    if not at_end:
        legal = " ".join(map(str, battle.legal_actions[t].nonzero()[0]))
        chosen = "not revealed" if battle.actions[t] < 0 else str(battle.actions[t])
        print(f"legal    {legal}\nchosen   {chosen}\nreward   {battle.rewards[t]:g}")
    print()
