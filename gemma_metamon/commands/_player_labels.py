"""What players are called in tables and results: as they are written, without what is as usual."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gemma_metamon.commands._player_texts import as_member
from gemma_metamon.commands._search_texts import LOOKAHEAD
from gemma_metamon.commands._words_players import SEES, WORDS

if TYPE_CHECKING:
    from gemma_metamon.commands._players import FoundPlayer
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.showdown.search.settings import SearchSettings


def words_label(player: "FoundPlayer") -> str:
    """The label of a chat model that answers in words, with what is not as usual: text:words@2@T0.5(reasoning=yes)."""
    from gemma_metamon.language.training.fine_tuning import run_of

    if player.words is None or player.thinking is None:
        raise ValueError(f"{player.text} answers in no words")
    temperature = "" if player.temperature is None else f"@T{player.temperature:g}"
    return f"{SEES if player.sees else WORDS}{run_of(player.words)[1]}{temperature}{player.thinking}"


def search_label(run: str, settings: "SearchSettings") -> str:
    """A label with all settings that are not the usual ones."""
    from gemma_metamon.showdown.search.settings import SearchSettings

    usual = SearchSettings()
    said = [f"{name}={value:g}" for name, value in vars(settings).items() if value != vars(usual)[name]]
    if run:
        return f"search({', '.join([run, *said])})"
    return f"{LOOKAHEAD}({', '.join(said)})" if said else LOOKAHEAD


def checkpoint_labels(checkpoints: "Sequence[Checkpoint]") -> "dict[Checkpoint, str]":
    """The label of each, first@3, or with the whole path where runs in two folders have one name."""
    named = [checkpoint.label for checkpoint in checkpoints]
    return {
        checkpoint: label if named.count(label) == 1 else str(checkpoint)
        for checkpoint, label in zip(checkpoints, named, strict=True)
    }


def run_label(player: "FoundPlayer", labels: "dict[Checkpoint, str]") -> str:
    """The label of a run or an ensemble, its members with what is not as usual: first@3@T0.8, by `labels`."""
    parts = []
    for member in player.members:
        temperature = "" if member.temperature is None else f"@T{member.temperature:g}"
        weight = "" if member.weight == 1 else f"*{member.weight:g}"
        name, _, epoch = labels[member.checkpoint].rpartition("@")
        parts.append(f"{as_member(name) if player.ensemble else name}@{epoch}{temperature}{weight}")
    joined = ", ".join(parts)
    return f"ensemble({'vote: ' if player.vote else ''}{joined})" if player.ensemble else joined
