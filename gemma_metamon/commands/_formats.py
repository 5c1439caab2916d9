"""Whether a checkpoint knows the format that it is to play, or is shown."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemma_metamon.commands._players import FoundPlayer
    from gemma_metamon.runs.checkpoints import Checkpoint

logger = logging.getLogger(__name__)


def warn_of_strange_formats(found: "Iterable[FoundPlayer]", battle_format: str) -> None:
    """Says of each checkpoint that plays if it was trained on battles of other formats alone.

    Args:
        found: who plays.
        battle_format: e.g. "gen1ou".
    """
    for checkpoint in dict.fromkeys(member.checkpoint for player in found for member in player.members):
        warn_of_a_strange_format(checkpoint, battle_format)


def warn_of_a_strange_format(checkpoint: "Checkpoint", battle_format: str) -> None:
    """The same of one. Raises DataError where its description is damaged."""
    trained_on = checkpoint.read_meta().settings.get("formats")
    if isinstance(trained_on, list) and trained_on and battle_format not in trained_on:
        logger.warning(
            "%s was trained on %s alone, and this is %s",
            checkpoint.label,
            ", ".join(map(str, trained_on)),
            battle_format,
        )
