"""Whether somebody who plays draws, and by which temperature: flags that would change nothing are refused."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import refuse_void

if TYPE_CHECKING:
    from gemma_metamon.commands._players import FoundPlayer


def require_drawn(args: argparse.Namespace, found: "Sequence[FoundPlayer]", *, told: bool) -> None:
    """Raises ConfigError for a --sample or --temperature that changes nothing.

    What an ensemble takes depends on the temperature without --sample all the same, and so does where an agent that
    searches looks.

    Args:
        args: with `temperature` and `sample`.
        found: who plays.
        told: whether somebody is told the probabilities of a run's actions, which depend on it, too.
    """
    depend = any(player.members and (told or player.ensemble or player.search is not None) for player in found)
    if not args.sample and not depend:
        refuse_void(args, {"temperature": 1.0}, "without --sample the most probable choice is taken")
    if not any(player.members or player.words is not None for player in found):
        refuse_void(args, {"sample": False}, "no checkpoint plays, and nobody else draws by it")
    require_taken(args, found)


def require_taken(args: argparse.Namespace, found: "Sequence[FoundPlayer]") -> None:
    """Raises ConfigError for a --temperature that nobody takes: no checkpoint plays, or each has its own."""
    if not any(_takes_temperature(player) for player in found):
        refuse_void(args, {"temperature": 1.0}, "no checkpoint plays that has none of its own by @T")


def _takes_temperature(player: "FoundPlayer") -> bool:
    if player.words is not None:
        return player.temperature is None
    return any(member.temperature is None for member in player.members)
