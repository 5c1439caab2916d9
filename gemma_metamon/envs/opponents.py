"""Who plays the other side: somebody who is made already, or a name, of which is known at once that it can be made."""

from dataclasses import dataclass
from pathlib import Path

from gemma_metamon.errors import ConfigError
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_for_play
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, learned
from gemma_metamon.showdown.players.registry import PLAYERS, player_class


@dataclass(frozen=True)
class FoundOpponent:
    """An opponent that is there; a checkpoint is not loaded yet."""

    found: Contestant | Checkpoint

    def contestant(self, battles: int) -> Contestant:
        """Loads a checkpoint, which takes its most probable actions, as in `gemma-metamon evaluate`.

        Args:
            battles: the most that it plays at a time.

        Raises DataError, CheckpointMismatchError for a checkpoint that cannot be used.
        """
        if isinstance(self.found, Contestant):
            return self.found
        playable = load_for_play(self.found)
        return learned(self.found.label, BatchedPolicy(playable.agent, playable.view, max_battles=battles))


def find_opponent(opponent: str | Contestant) -> FoundOpponent:
    """The opponent of that name.

    Args:
        opponent: a scripted player ("SimpleHeuristicsPlayer"), a run ("runs/first", "runs/first@3"), or a contestant
            of one's own. The policy of such a one must have memory for as many battles as are played at a time.

    Raises:
        ConfigError: a name that is neither a scripted player nor a folder.
        MissingFileError: a folder without checkpoints, or without that one.
    """
    if isinstance(opponent, Contestant):
        return FoundOpponent(opponent)
    if opponent in PLAYERS:
        return FoundOpponent(scripted(opponent))
    if not Path(opponent).is_dir() and "/" not in opponent and "@" not in opponent:
        try:
            player_class(opponent)
        except ConfigError as error:
            raise ConfigError(f"{error}; nor is {opponent!r} the folder of a run") from None
    return FoundOpponent(Checkpoint.find_named(opponent))
