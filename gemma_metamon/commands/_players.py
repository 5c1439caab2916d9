"""Players named on the command line, found and loaded: scripted ones, checkpoints of runs, ensembles of checkpoints.

Here and not in showdown/, which knows no checkpoints. How they are written is in _player_texts.py.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gemma_metamon.commands._player_texts import EnsembleText, RunText, as_member, read_text
from gemma_metamon.errors import ConfigError, MissingFileError

if TYPE_CHECKING:
    from gemma_metamon.showdown.players.contestants import Contestant
    from gemma_metamon.showdown.players.ensembles import Member
    from gemma_metamon.showdown.players.policy_player import Observer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FoundMember:
    """A checkpoint's folder, at the temperature that was written, None for the command's, and with its weight."""

    folder: Path
    temperature: float | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class FoundPlayer:
    """A player of whom it is known that it is there. Equal to another that plays the same way.

    Attributes:
        text: as it was written.
        scripted: the name of a scripted player, None of checkpoints.
        members: the checkpoints, one or more; none of a scripted player.
        ensemble: whether it was written as an ensemble.
        vote: whether its members vote.
    """

    text: str = field(compare=False)
    scripted: str | None = None
    members: tuple[FoundMember, ...] = ()
    ensemble: bool = False
    vote: bool = False

    @property
    def run_dirs(self) -> list[Path]:
        return list(dict.fromkeys(member.folder.parent.parent for member in self.members))


def find_players(texts: Sequence[str], epoch: int | None = None) -> list[FoundPlayer]:
    """Looks at all names and folders, and loads nothing.

    Args:
        texts: "SimpleHeuristicsPlayer", "runs/first@3", "ensemble(runs/first@3, runs/second)"; see _player_texts.py.
        epoch: of checkpoints that are written without one; None is each run's last.

    Raises:
        ConfigError: a name that is neither a scripted player nor a folder, or a text that says nothing.
        MissingFileError: a folder without checkpoints, or without that one.
    """
    return [_find_player(text, epoch) for text in texts]


def _find_player(text: str, epoch: int | None) -> FoundPlayer:
    from gemma_metamon.showdown.players.registry import PLAYERS

    if text in PLAYERS:
        return FoundPlayer(text=text, scripted=text)
    read = read_text(text)
    if isinstance(read, EnsembleText):
        members = tuple(_find_member(member, epoch, read) for member in read.members)
        return FoundPlayer(text=text, members=members, ensemble=True, vote=read.vote)
    return FoundPlayer(text=text, members=(_find_member(read, epoch, None),))


def _find_member(member: RunText, epoch: int | None, ensemble: EnsembleText | None) -> FoundMember:
    from gemma_metamon.runs.checkpoints import find_checkpoint
    from gemma_metamon.showdown.players.registry import PLAYERS, player_class

    if ensemble is not None and member.text in PLAYERS:
        raise ConfigError(
            f"member {member.text} of {ensemble.text} is a scripted player, which has no probabilities to combine; "
            "name runs of `train`"
        )
    if not member.run_dir.is_dir() and "/" not in member.text and "@" not in member.text:
        try:
            player_class(member.text)
        except ConfigError as error:
            raise ConfigError(f"{error}; nor is {member.text!r} the folder of a run") from None
    try:
        folder = find_checkpoint(member.run_dir, epoch if member.epoch is None else member.epoch)
    except MissingFileError as error:
        if ensemble is None:
            raise
        raise MissingFileError(f"member {member.text} of {ensemble.text}: {error}") from None
    return FoundMember(folder=folder, temperature=member.temperature, weight=member.weight)


def contestants(
    found: Sequence[FoundPlayer],
    *,
    device: str | None,
    sample: bool,
    temperature: float,
    max_battles: int,
    seed: int,
    observer: "Observer | None" = None,
    dtype: str = "float32",
) -> "list[Contestant]":
    """One contestant for each player, in their order; of those that are equal, the same one.

    Args:
        found: of `find_players`.
        device: of the checkpoints; None is CUDA where there is some, else the CPU.
        sample: whether checkpoints draw their actions.
        temperature: of those that are written without one.
        max_battles: the most battles that one player has in play at a time, those just ending included.
        seed: of the draws.
        observer: is told of the decisions of checkpoints that play alone.
        dtype: of the checkpoints' largest weights, see `prepare_to_act`.

    Raises:
        ConfigError: a device that cannot be used.
        DataError, CheckpointMismatchError: a checkpoint that cannot be used; all are looked at before one is loaded.
    """
    from gemma_metamon.nets.agents.acting import share_texts
    from gemma_metamon.runs import checkpoints
    from gemma_metamon.showdown.players.contestants import learned, scripted
    from gemma_metamon.showdown.players.ensembles import EnsemblePolicy
    from gemma_metamon.showdown.players.policy_player import BatchedPolicy

    folders = list(dict.fromkeys(member.folder for player in found for member in player.members))
    if folders:
        checkpoints.usable_device(device)
    if len(folders) > 1:
        for folder in folders:
            checkpoints.require_loadable(folder)
    labels = _labels(folders)
    made: dict[FoundPlayer, Contestant] = {}
    for player in found:
        if player in made:
            continue
        if player.scripted is not None:
            made[player] = scripted(player.scripted)
            continue
        members = _load_members(player, labels, device, temperature, dtype)
        name = _label(player, labels)
        if player.ensemble:
            share_texts([member.agent for member in members])
            policy = EnsemblePolicy(members, max_battles=max_battles, sample=sample, vote=player.vote, seed=seed)
            made[player] = learned(name, policy)
            continue
        (only,) = members
        if player.members[0].temperature and not sample:
            logger.warning("%s takes its most probable actions, whatever its temperature: none are drawn", name)
        alone = BatchedPolicy(
            only.agent,
            only.view,
            max_battles=max_battles,
            sample=sample,
            temperature=only.temperature,
            seed=seed,
            name=only.name,
        )
        made[player] = learned(name, alone, observer)
    return [made[player] for player in found]


def _load_members(
    player: FoundPlayer, labels: dict[Path, str], device: str | None, temperature: float, dtype: str
) -> "list[Member]":
    """A checkpoint that is a member twice is loaded once."""
    from gemma_metamon.nets.agents.acting import prepare_to_act
    from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
    from gemma_metamon.runs import checkpoints
    from gemma_metamon.showdown.players.ensembles import Member

    agents: dict[Path, tuple[Any, Any]] = {}
    for folder in dict.fromkeys(member.folder for member in player.members):
        agent, meta = checkpoints.load_agent(folder, device)
        prepare_to_act(agent, dtype)
        encoder = cast("Any", agent).tstep_encoder
        if isinstance(encoder, GemmaTstepEncoder):
            logger.info("%s: %s", labels[folder], encoder.describe())
        agents[folder] = agent, meta.view()
    return [
        Member(
            agent=agents[member.folder][0],
            view=agents[member.folder][1],
            name=labels[member.folder],
            temperature=temperature if member.temperature is None else member.temperature,
            weight=member.weight,
        )
        for member in player.members
    ]


def _labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Checkpoint folder -> "first@3", or with the whole path where runs in two folders have one name."""

    def epoch(folder: Path) -> str:
        return folder.name.removeprefix("epoch_")

    short = {folder: f"{folder.parent.parent.resolve().name}@{epoch(folder)}" for folder in folders}
    named = list(short.values())
    return {
        folder: label if named.count(label) == 1 else f"{folder.parent.parent}@{epoch(folder)}"
        for folder, label in short.items()
    }


def _label(player: FoundPlayer, labels: dict[Path, str]) -> str:
    parts = []
    for member in player.members:
        temperature = "" if member.temperature is None else f"@T{member.temperature:g}"
        weight = "" if member.weight == 1 else f"*{member.weight:g}"
        name, _, epoch = labels[member.folder].rpartition("@")
        parts.append(f"{as_member(name) if player.ensemble else name}@{epoch}{temperature}{weight}")
    joined = ", ".join(parts)
    return f"ensemble({'vote: ' if player.vote else ''}{joined})" if player.ensemble else joined
