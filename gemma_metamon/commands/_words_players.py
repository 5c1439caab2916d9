"""How models that answer in words are written on the command line.

text:runs/words@2@T0.5
text:runs/words(reasoning=yes, reasoning_tokens=64)
vlm:runs/eyes@2@T0.5                                    one that sees
vlm:runs/eyes(sprites=DIR)                              one that was trained on sprites
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._player_options import read_options, yes_no
from gemma_metamon.commands._player_texts import EnsembleText, RunText, read_text
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra
from gemma_metamon.registry.manifests import PLAYED_AS
from gemma_metamon.registry.names import PREFIX, Reference, leading, read_reference
from gemma_metamon.registry.registry import Registry

if TYPE_CHECKING:
    from gemma_metamon.language.models.answering import Thinking

WORDS = PLAYED_AS["text"]
"""Before the folder of a chat model that plays."""
SEES = PLAYED_AS["vision"]
"""Before the folder of one that sees."""
EXAMPLE = f"{WORDS}RUN(reasoning=yes, reasoning_tokens=64)"
_OPTIONS = re.compile(r"(?P<run>(?!\s*ensemble\s*\().+?)\s*\((?P<body>[^()]*)\)\s*", re.DOTALL)
_KINDS: dict[str, Any] = {"reasoning": yes_no, "reasoning_tokens": int}


@dataclass(frozen=True)
class WordsText:
    """A model that answers in words, as it is written; `sees` where it is told by pictures, `sprites` are theirs."""

    run: RunText
    thinking: "Thinking"
    sees: bool = False
    sprites: Path | None = None


def read_words(text: str) -> WordsText | None:
    """What the text of such a player says; None for the text of another player.

    Raises:
        ConfigError: a text that is not written as above, or an option or value that there is not.
        MissingDependencyError: without the extra `language`; of one that sees, `vision`.
    """
    text = with_kind(text)
    if text.startswith(SEES):
        return _read_seeing(text)
    if not text.startswith(WORDS):
        return None
    require_extra("language", text)
    from gemma_metamon.language.models.answering import Thinking

    run, options = _read_run(text, WORDS, _KINDS, "a model that answers in words", EXAMPLE)
    if "reasoning_tokens" in options and not options.get("reasoning"):
        raise ConfigError(f"{text}: without reasoning there are no reasoning_tokens; write it as in {EXAMPLE}")
    return WordsText(run, Thinking(**options))


def with_kind(text: str) -> str:
    """A registered model as it plays: "registry:words@3" is "text:registry:words@3" where that is a chat model.

    Of a stage it names the version, or another one could be there when its files are fetched.
    """
    registered = leading(text)
    if registered is None:
        return text
    manifest = Registry().find(read_reference(registered[0]))
    return f"{PLAYED_AS[manifest.kind]}{PREFIX}{Reference(manifest.name, manifest.version)}{registered[1]}"


def _read_seeing(text: str) -> WordsText:
    require_extra("language", text)
    require_extra("vision", text)
    from gemma_metamon.language.models.answering import Thinking

    run, options = _read_run(text, SEES, {"sprites": Path}, "a model that sees", f"{SEES}RUN(sprites=DIR)")
    return WordsText(run, Thinking(), sees=True, sprites=options.get("sprites"))


def _read_run(text: str, mark: str, kinds: dict[str, Any], who: str, example: str) -> tuple[RunText, dict[str, Any]]:
    """The run behind a mark, and its options; see `read_options`."""
    run, options = text.removeprefix(mark), dict[str, Any]()
    written = None if Path(run).is_dir() else _OPTIONS.fullmatch(run)
    if written is not None:
        run = written["run"]
        options = read_options(written["body"], kinds, who, example)
    read = read_text(run)
    if isinstance(read, EnsembleText):
        raise ConfigError(f"{text}: {who} plays alone; name one, as in {mark}RUN@2")
    return read, options
