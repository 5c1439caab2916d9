"""`gemma-metamon inspect`: a recorded battle, turn by turn, as an agent sees it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, add_space_arguments

if TYPE_CHECKING:
    from gemma_metamon.battle.trajectories import Trajectory
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = "example: gemma-metamon inspect BATTLE.json.lz4 --obs_space TeamPreviewObservationSpace --phrasing natural"


def add_parser(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser("inspect", help="print a recorded battle as an agent sees it", epilog=EXAMPLE)
    parser.add_argument("battle", type=Path, metavar="BATTLE", help="a battle file, .json.lz4 or .json")
    add_space_arguments(parser)
    parser.add_argument(
        "--phrasing", default="natural", help="natural: display names; raw: the words themselves (default: %(default)s)"
    )
    add_shared_argument(parser, "json", help="print one JSON object with lists over timesteps")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gemma_metamon.battle.actions import get_action_space
    from gemma_metamon.battle.observations import get_observation_space
    from gemma_metamon.battle.replays import load_battle
    from gemma_metamon.battle.rewards import get_reward_function
    from gemma_metamon.battle.trajectories import observe_trajectory
    from gemma_metamon.text.phrases import join_phrases
    from gemma_metamon.text.vocabulary import Vocabulary

    space, actions = get_observation_space(args.obs_space), get_action_space(args.action_space)
    reward = get_reward_function(args.reward_function)
    trajectory = observe_trajectory(load_battle(args.battle), space, actions, reward)
    vocabulary = Vocabulary.default()
    text = [join_phrases(words, args.phrasing, vocabulary) for words in trajectory.words.tolist()]
    if args.json:
        print(
            json.dumps(
                {
                    "words": trajectory.words.tolist(),
                    "text": text,
                    "numbers": trajectory.numbers.tolist(),
                    "rewards": trajectory.rewards.tolist(),
                    "chosen": trajectory.chosen.tolist(),
                    "legal": trajectory.legal.tolist(),
                    "missing": trajectory.missing.tolist(),
                }
            )
        )
        return 0
    for t in range(len(text)):
        print_timestep(trajectory, text[t], t)
    return 0


def print_timestep(trajectory: "Trajectory", text: str, t: int) -> None:
    n_decisions = len(trajectory.rewards)
    print(f"== timestep {t}" + (" (the end: nothing is chosen)" if t == n_decisions else ""))
    print(f"words    {' '.join(trajectory.words[t])}")
    print(f"text     {text}")
    print(f"numbers  {' '.join(f'{number:g}' for number in trajectory.numbers[t].round(4))}")
    if t < n_decisions:
        legal = " ".join(map(str, trajectory.legal[t].nonzero()[0]))
        chosen = "not revealed" if trajectory.missing[t] else str(trajectory.chosen[t])
        print(f"legal    {legal}\nchosen   {chosen}\nreward   {trajectory.rewards[t]:g}")
    print()
