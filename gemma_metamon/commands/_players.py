"""Players named on the command line, found and loaded: scripted ones, checkpoints, ensembles of them, chat models.

Here and not in showdown/, which knows no checkpoints. How they are written is in _player_texts.py.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._chat_players import read_chat
from gemma_metamon.commands._player_labels import checkpoint_labels, run_label, search_label, words_label
from gemma_metamon.commands._player_texts import EnsembleText, RunText, read_text
from gemma_metamon.commands._remote import fetched_run
from gemma_metamon.commands._search_texts import LOOKAHEAD, read_search
from gemma_metamon.commands._words_players import read_words
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.extras import require_extra
from gemma_metamon.strict_json import shown

if TYPE_CHECKING:
    from gemma_metamon.commands._words_players import WordsText
    from gemma_metamon.language.models.answering import Thinking
    from gemma_metamon.language.players.settings import ChatSettings
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.showdown.players.contestants import Contestant
    from gemma_metamon.showdown.players.ensembles import Member
    from gemma_metamon.showdown.players.policy_player import Observer
    from gemma_metamon.showdown.search.settings import SearchSettings

logger = logging.getLogger(__name__)
_NOT_DRAWN = "%s takes its most probable actions, whatever its temperature: none are drawn"


@dataclass(frozen=True, kw_only=True)
class FoundMember:
    """A checkpoint, at the temperature that was written, None for the command's, and with its weight."""

    checkpoint: "Checkpoint"
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
        search: how far it looks ahead; None of who does not. Without members it is LookaheadTrainer.
        chat: how a chat model is asked; None of all others.
        words: the folder of a chat model, which answers in words; None of others.
        temperature: of that model, as it was written, None for the command's.
        thinking: of that model, before it chooses; None of others.
        sees: whether that model is told by pictures.
        sprites: the folder of those that it is shown; None shows none.
    """

    text: str = field(compare=False)
    scripted: str | None = None
    members: tuple[FoundMember, ...] = ()
    ensemble: bool = False
    vote: bool = False
    search: "SearchSettings | None" = None
    chat: "ChatSettings | None" = None
    words: Path | None = None
    temperature: float | None = None
    thinking: "Thinking | None" = None
    sees: bool = False
    sprites: Path | None = None

    @property
    def run_dirs(self) -> list[Path]:
        """The folders of its members' runs, each once."""
        return list(dict.fromkeys(member.checkpoint.run_dir for member in self.members))


def find_players(texts: Sequence[str], epoch: int | None = None) -> list[FoundPlayer]:
    """Looks at all names and folders, and loads nothing.

    Args:
        texts: "SimpleHeuristicsPlayer", "runs/first@3", "ensemble(runs/first@3, runs/second)"; see _player_texts.py.
        epoch: of checkpoints that are written without one; None is each run's last.

    Raises:
        ConfigError: a name that is neither a scripted player nor a folder, or a text that says nothing.
        MissingDependencyError: a chat model, without the extra `language`.
        MissingFileError: a folder without checkpoints, or without that one.
    """
    return [_find_player(text, epoch) for text in texts]


def find_run(text: str, epoch: int | None = None) -> FoundMember:
    """One run of `train`, written as it is where it plays: "runs/first@3", "runs/first@3@T0.8".

    Args:
        text: its text.
        epoch: of a run that is written without one; None is its last.

    Raises:
        ConfigError: a text that says nothing, or an ensemble.
        MissingFileError: a folder without checkpoints, or without that one.
    """
    run = read_text(text)
    if isinstance(run, EnsembleText):
        raise ConfigError(f"{shown(text)} is an ensemble; name one run, as in RUN or RUN@EPOCH")
    return _found_member(run, epoch)


def find_expert(text: str) -> FoundPlayer:
    """Who labels others' states (`--label_by`). Raises as `find_players`, and ConfigError for a checkpoint."""
    (found,) = find_players([text])
    if found.chat is not None:
        raise ConfigError(
            f"--label_by {text} is a chat model, which is told what it chose before, and here somebody else chooses; "
            "let it play itself, as one of --players"
        )
    if found.members or found.words is not None:
        raise ConfigError(
            f"--label_by {text} is a checkpoint, which goes by what it did before, and here somebody else chooses; "
            "name a player that decides by the battle as it stands, such as DuelTrainer"
        )
    return found


def _find_player(text: str, epoch: int | None) -> FoundPlayer:
    from gemma_metamon.showdown.players.registry import PLAYERS

    if text in PLAYERS:
        return FoundPlayer(text=text, scripted=text)
    chat = read_chat(text)
    if chat is not None:
        require_extra("language", chat.name, "openai")
        chat.read_key()
        return FoundPlayer(text=text, chat=chat)
    words = read_words(text)
    if words is not None:
        return _find_words(text, words, epoch)
    searching = read_search(text)
    if searching is not None:
        inner = FoundPlayer(text=text) if searching.run is None else _find_player(searching.run, epoch)
        if searching.run is not None and not (inner.members and not inner.ensemble and inner.search is None):
            raise ConfigError(f"{text}: an agent searches; name one run, or {LOOKAHEAD}(forks=N) instead")
        return replace(inner, text=text, search=searching.settings)
    read = read_text(text)
    if isinstance(read, EnsembleText):
        members = tuple(_find_member(member, epoch, read) for member in read.members)
        return FoundPlayer(text=text, members=members, ensemble=True, vote=read.vote)
    return FoundPlayer(text=text, members=(_find_member(read, epoch, None),))


def _find_words(text: str, words: "WordsText", epoch: int | None) -> FoundPlayer:
    from gemma_metamon.language.training.fine_tuning import find_model

    run = words.run
    folder = find_model(run.run_dir, epoch if run.epoch is None else run.epoch)
    return FoundPlayer(
        text=text,
        words=folder,
        temperature=run.temperature,
        thinking=words.thinking,
        sees=words.sees,
        sprites=words.sprites,
    )


def require_named_opponents(texts: Sequence[str], opponents: Sequence[str] | None) -> None:
    """Raises ConfigError for the first of --record_opponents that is none of --opponents."""
    for text in texts:
        if text not in (opponents or ()):
            raise ConfigError(f"--record_opponents {text} is none of --opponents; name it there, too")


def require_no_search(found: Sequence[FoundPlayer], where: str) -> None:
    """Raises ConfigError where one of them searches, for battles that are played on a server."""
    for player in found:
        if player.search is not None:
            name = str(player.members[0].checkpoint) if player.members else "DuelTrainer"
            raise ConfigError(
                f"{player.text} plays on in copies of an arena's battles, and {where} plays on a server, which gives "
                f"none; name {name} instead, or play in an arena with `gemma-metamon evaluate` without --server"
            )


def _found_member(run: RunText, epoch: int | None) -> FoundMember:
    from gemma_metamon.runs.checkpoints import Checkpoint

    wanted = epoch if run.epoch is None else run.epoch
    checkpoint = Checkpoint.find(fetched_run(run.run_dir, wanted), wanted)
    return FoundMember(checkpoint=checkpoint, temperature=run.temperature, weight=run.weight)


def _find_member(member: RunText, epoch: int | None, ensemble: EnsembleText | None) -> FoundMember:
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
        return _found_member(member, epoch)
    except MissingFileError as error:
        if ensemble is None:
            raise
        raise MissingFileError(f"member {member.text} of {ensemble.text}: {error}") from None


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
    teams: Sequence[str] = (),
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
        dtype: of the checkpoints' largest weights, see `load_for_play`.
        teams: packed: among which those that search guess the other side's; none are the format's own.

    Raises:
        ConfigError: a device that cannot be used, or another dtype where no checkpoint of an agent plays.
        DataError, CheckpointMismatchError: a checkpoint that cannot be used; all are looked at before one is loaded.
        ServerError: a chat model that gives no answer.
    """
    if dtype != "float32" and not any(player.members for player in found):
        raise ConfigError(f"--dtype {dtype} is of checkpoints of `train`, and none plays here; leave it out")
    made = {
        player: _unlearned(player, teams)
        if player.words is None
        else _in_words(player, device, sample=sample, temperature=temperature, seed=seed)
        for player in dict.fromkeys(found)
        if not player.members
    }
    if not any(player.members for player in found):  # torch takes a second to import, and they need none
        return [made[player] for player in found]
    from gemma_metamon.nets.agents.acting import share_texts
    from gemma_metamon.runs.loading import require_loadable, usable_device
    from gemma_metamon.showdown.players.ensembles import EnsemblePolicy
    from gemma_metamon.showdown.players.policy_player import BatchedPolicy, learned
    from gemma_metamon.showdown.search.agents import searching

    checkpoints = list(dict.fromkeys(member.checkpoint for player in found for member in player.members))
    usable_device(device)
    if len(checkpoints) > 1:
        for checkpoint in checkpoints:
            require_loadable(checkpoint)
    labels = checkpoint_labels(checkpoints)
    for player in found:
        if player in made:
            continue
        members = _load_members(player, labels, device, temperature, dtype)
        name = run_label(player, labels)
        if player.ensemble:
            share_texts([member.agent for member in members])
            policy = EnsemblePolicy(members, max_battles=max_battles, sample=sample, vote=player.vote, seed=seed)
            made[player] = learned(name, policy)
            continue
        (only,) = members
        if player.members[0].temperature and not sample and player.search is None:
            logger.warning(_NOT_DRAWN, name)
        alone = BatchedPolicy(
            only.agent,
            only.view,
            max_battles=max_battles,
            sample=sample,
            temperature=only.temperature,
            seed=seed,
            name=only.name,
        )
        if player.search is None:
            made[player] = learned(name, alone, observer)
        else:
            made[player] = searching(search_label(name, player.search), alone, player.search, teams, observer)
    return [made[player] for player in found]


def _in_words(player: FoundPlayer, device: str | None, *, sample: bool, temperature: float, seed: int) -> "Contestant":
    """A chat model; `temperature` is of one that is written without. Raises as `language.models.chat_model.load`."""
    from gemma_metamon.language.models.chat_model import load
    from gemma_metamon.language.models.scoring import ChoiceScorer
    from gemma_metamon.language.players.text import TextPolicy, text_contestant
    from gemma_metamon.language.training.fine_tuning import read_form, run_of
    from gemma_metamon.runs.loading import usable_device

    folder, own = player.words, player.temperature
    if folder is None or player.thinking is None:
        raise ValueError(f"{player.text} answers in no words")
    if own and not sample:
        logger.warning(_NOT_DRAWN, words_label(player))
    if player.sees:
        from gemma_metamon.vision import models as seeing
        from gemma_metamon.vision.players.seeing import SeeingPolicy

        sees = SeeingPolicy(
            seeing.load(folder, usable_device(device)),
            name=words_label(player),
            sample=sample,
            temperature=temperature if own is None else own,
            seed=seed,
            sprites=player.sprites,
        )
        return text_contestant(sees)
    run_dir, _ = run_of(folder)
    policy = TextPolicy(
        ChoiceScorer(load(folder, usable_device(device))),
        read_form(run_dir),
        name=words_label(player),
        sample=sample,
        temperature=temperature if own is None else own,
        seed=seed,
        thinking=player.thinking,
    )
    return text_contestant(policy)


def _unlearned(player: FoundPlayer, teams: Sequence[str]) -> "Contestant":
    """A scripted player, a chat model, or LookaheadTrainer."""
    from gemma_metamon.showdown.players.contestants import scripted
    from gemma_metamon.showdown.search.players import lookahead

    if player.scripted is not None:
        return scripted(player.scripted)
    if player.chat is not None:
        from gemma_metamon.language.players.chat import chat_model

        return chat_model(player.chat)
    settings = player.search
    if settings is None:
        raise ValueError(f"{player.text} is nobody")
    return lookahead(search_label("", settings), settings, teams)


def _load_members(
    player: FoundPlayer, labels: "dict[Checkpoint, str]", device: str | None, temperature: float, dtype: str
) -> "list[Member]":
    """A checkpoint that is a member twice is loaded once.

    Args:
        player: whose members.
        labels: the names of all checkpoints.
        device: see `contestants`, as for the others.
        temperature: of members that are written without one.
        dtype: of their largest weights.
    """
    from gemma_metamon.runs.loading import Playable, load_for_play
    from gemma_metamon.showdown.players.ensembles import Member

    loaded: dict[Checkpoint, Playable] = {}
    for checkpoint in dict.fromkeys(member.checkpoint for member in player.members):
        loaded[checkpoint] = load_for_play(checkpoint, device, dtype)
        logger.info("%s: %s", labels[checkpoint], loaded[checkpoint].agent.tstep_encoder.describe())
    return [
        Member(
            agent=loaded[member.checkpoint].agent,
            view=loaded[member.checkpoint].view,
            name=labels[member.checkpoint],
            temperature=temperature if member.temperature is None else member.temperature,
            weight=member.weight,
        )
        for member in player.members
    ]
