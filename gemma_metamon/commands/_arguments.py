"""Flags that several commands share, so that each has one spelling, one default and one help text."""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra
from gemma_metamon.strict_json import shown_path

if TYPE_CHECKING:
    from gemma_metamon.explain.watch import Watcher
    from gemma_metamon.runs.identity import RunDescription
    from gemma_metamon.text.vocabulary import Vocabulary
    from gemma_metamon.view import BattleView

    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

logger = logging.getLogger(__name__)

_TRIAL_BYTES = 4096  # a full disk takes an empty file


def require_share(args: argparse.Namespace, *flags: str) -> None:
    """Raises ConfigError for the first of these flags whose number is no share."""
    for flag in flags:
        if not 0 <= getattr(args, flag) <= 1:
            raise ConfigError(f"--{flag} {getattr(args, flag)}; it is a share, between 0 and 1")


def require_at_least_one(args: argparse.Namespace, *flags: str) -> None:
    """Raises ConfigError for the first of these flags whose number is below 1."""
    for flag in flags:
        if getattr(args, flag) < 1:
            raise ConfigError(f"--{flag} {getattr(args, flag)}; it must be at least 1")


def require_above_zero(args: argparse.Namespace, *flags: str) -> None:
    """Raises ConfigError for the first of these flags whose number is not above 0."""
    for flag in flags:
        if not getattr(args, flag) > 0:  # nor is what is no number
            raise ConfigError(f"--{flag} {getattr(args, flag)}; it must be above 0")


def require_not_negative(args: argparse.Namespace, *flags: str) -> None:
    """Raises ConfigError for the first of these flags whose number is below 0."""
    for flag in flags:
        if not getattr(args, flag) >= 0:
            raise ConfigError(f"--{flag} {getattr(args, flag)}; it must not be negative")


def require_seed(args: argparse.Namespace) -> None:
    """Raises ConfigError for a --seed that training's generators do not take."""
    if not 0 <= args.seed < 2**32:
        raise ConfigError(f"--seed {args.seed}; it must be within 0 to {2**32 - 1}")


MAX_NAME_BYTES = 200
"""A file system takes 255; ours add a suffix to some names."""


def require_name(flag: str, *names: str) -> None:
    """Raises ConfigError for a value of this flag that cannot name a file or folder within another one."""
    for name in names:
        if not name.strip() or name in (".", "..") or any(sign in "/\\" or not sign.isprintable() for sign in name):
            wanted = "it names a folder: letters, digits, '-', '_', '.', and no '/'"
            raise ConfigError(f"--{flag} {name!a}; {wanted}")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise ConfigError(f"--{flag} {name[:20]!a}...; its {len(name.encode())} bytes are above {MAX_NAME_BYTES}")


def require_websocket(args: argparse.Namespace) -> None:
    """Raises ConfigError for a --server that is no websocket's address."""
    if args.server is not None and not args.server.startswith(("ws://", "wss://")):
        raise ConfigError(f"--server {args.server}; give its address, as ws://localhost:8000/showdown/websocket")


def make_folder(folder: Path, flag: str) -> None:
    """Raises ConfigError for a folder, the value of this flag, that cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--{flag} {folder} cannot be made ({error.strerror}); name another folder") from error
    require_writable(folder, flag)


def require_writable(folder: Path, flag: str) -> None:
    """Raises ConfigError for a folder, there already, that nothing can be written into: before hours of work for it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(_TRIAL_BYTES))
    except OSError as error:
        raise ConfigError(
            f"--{flag} {folder} cannot be written to ({error.strerror}); make room there, or name another folder"
        ) from error


def require_place(path: Path, flag: str) -> None:
    """Raises ConfigError where nothing of this name can be `written_whole`. Makes the folder that it is in."""
    make_folder(path.parent, flag)
    trial = path.with_name(f".{path.name}")
    try:
        with written_whole(trial) as staged:
            staged.touch()
        trial.unlink()
    except OSError as error:
        raise ConfigError(f"--{flag} {path} cannot be written ({error.strerror}); choose another name") from error


def check_texts(arguments: Sequence[str]) -> None:
    """Raises ConfigError for the first argument that is empty, as by a variable that is not set, or no text."""
    flag = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            flag, value = f"{name} ", value if equals else argument
        else:
            value = argument
        if not value:
            raise ConfigError(f"{flag or 'an argument '}'' is empty; give a value, or leave it out")
        if "\0" in value:
            raise ConfigError(f"{flag}{shown_path(value)} holds a zero byte; name another folder or file")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise ConfigError(f"{flag}{shown_path(value)} is not UTF-8; name another folder or file")
        if not argument.startswith("--") or equals:
            flag = ""  # that was its value


def check_paths(args: argparse.Namespace) -> None:
    """Raises ConfigError for the first file or folder with a line break or the like in its name."""
    for values in vars(args).values():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, Path) and not str(value).isprintable():
                raise ConfigError(f"{shown_path(value)}: a file or folder of such a name is neither read nor made")


SPACES = {
    "obs_space": (
        "TeamPreviewObservationSpace",
        "what the agent sees: DefaultObservationSpace, ExpandedObservationSpace, TeamPreviewObservationSpace, "
        "OpponentMoveObservationSpace, GroupedObservationSpace, PAC-ExpandedObservationSpace, "
        "PAC-TeamPreviewObservationSpace or PAC-OpponentMoveObservationSpace",
    ),
    "action_space": ("DefaultActionSpace", "what it may do: DefaultActionSpace or MinimalActionSpace"),
    "reward_function": (
        "DefaultShapedReward",
        "what it is paid for: DefaultShapedReward, AggressiveShapedReward or BinaryReward",
    ),
}
"""Flag -> default and meaning, with the names of the registries (tests/test_spaces.py), which would be slow to load."""


def add_space_arguments(parser: "argparse._ActionsContainer", *, instead: str | None = None) -> None:
    """What an agent sees, may do and is paid for. Names are checked by the registries, which also list them.

    Args:
        parser: gets the flags.
        instead: where the command looks before it takes the defaults; a flag that was not given is then None.
    """
    for name, (default, meaning) in SPACES.items():
        given = default if instead is None else f"{instead}, or {default}"
        parser.add_argument(
            f"--{name}", default=default if instead is None else None, help=f"{meaning} (default: {given})"
        )


def add_tokenizer_argument(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument(
        "--tokenizer", help="a JSON list of words, or a map word -> id, in place of the packaged vocabulary"
    )


def _load_vocabulary(args: argparse.Namespace) -> "Vocabulary | None":
    """Of --tokenizer. The name of one of metamon's word lists, which are not ours, is put back to None.

    Raises ConfigError for another name, and as `Vocabulary.from_file` does.
    """
    from gemma_metamon.text.vocabulary import METAMON_WORD_LISTS, Vocabulary

    path = Path(args.tokenizer)
    if isinstance(args.tokenizer, Path) or path.is_file() or path.suffix == ".json":  # a flag may take files alone
        return Vocabulary.from_file(path)
    if args.tokenizer not in METAMON_WORD_LISTS:
        raise ConfigError(
            f"unknown word list {shown_path(args.tokenizer)}; give a JSON file of words, or leave --tokenizer out: the "
            f"packaged words then stand in for metamon's ({', '.join(METAMON_WORD_LISTS)})"
        )
    logger.info("--tokenizer %s is unused: metamon's word lists come with metamon; using the packaged one", path)
    args.tokenizer = None
    return None


def load_view(args: argparse.Namespace, beside: "RunDescription | None" = None) -> "BattleView":
    """What the flags of spaces and words name; what they leave out is that of `beside`, or else the default.

    Raises:
        ConfigError: an unknown name.
        MissingFileError, DataError: as `Vocabulary.from_file` does.
    """
    from gemma_metamon.view import BattleView

    names = {
        name: getattr(args, name) or (default if beside is None else getattr(beside.identity, name))
        for name, (default, _) in SPACES.items()
    }
    if vars(args).get("tokenizer") is not None:  # not all commands have it
        vocabulary = _load_vocabulary(args)
    else:
        vocabulary = None if beside is None else beside.view().vocabulary
    return BattleView.from_names(**names, vocabulary=vocabulary)


def add_watch_argument(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument(
        "--watch",
        type=Path,
        metavar="DIR",
        help="keep a page of the checkpoint's battle in play, decision by decision: open DIR/now.html in a browser",
    )


def load_watcher(args: argparse.Namespace) -> "Watcher | None":
    """Of --watch."""
    if args.watch is None:
        return None
    require_extra("report", "--watch")
    from gemma_metamon.explain.watch import Watcher

    make_folder(args.watch, "watch")
    return Watcher(args.watch)


def add_gin_arguments(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument("--train_gin_config", help="a packaged training config's name, or a path to one")
    add_override_argument(parser)


def add_override_argument(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument(
        "--gin_override",
        action="append",
        default=[],
        metavar="'NAME.PARAMETER = VALUE'",
        help="a gin binding applied after the files; repeatable",
    )
