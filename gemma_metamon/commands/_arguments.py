"""Flags that several commands share, so that each has one spelling, one default and one help text."""

import argparse
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra
from gemma_metamon.object_stores.folders import address_of
from gemma_metamon.registry.registry import local_folder, pinned
from gemma_metamon.strict_json import shown, shown_path

if TYPE_CHECKING:
    from gemma_metamon.explain.watch import Watcher
    from gemma_metamon.runs.identity import RunDescription
    from gemma_metamon.text.vocabulary import Vocabulary
    from gemma_metamon.view import BattleView

    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

logger = logging.getLogger(__name__)

_TRIAL_BYTES = 4096  # a full disk takes an empty file
MAX_NAME_BYTES = 200
"""A file system takes 255; ours add a suffix to some names."""
MOST_WORKERS = 8
"""So many are begun unasked: each takes some 350 MB."""
SEEDS = 2**32
"""So many seeds do all of the random generators take."""


Number = TypeVar("Number", int, float)


def _number(kind: Callable[[str], Number], fits: Callable[[Number], bool], rule: str) -> Callable[[str], Number]:
    """A `type` of argparse's: a number of which `fits` is true, refused by the rule otherwise."""

    def read(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{shown(text)}; give {wanted}") from None
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{shown(value)}; {rule}")
        return value

    return read


# NaN fits none of them
whole_number = _number(int, lambda value: True, "")
at_least_one = _number(int, lambda value: value >= 1, "it must be at least 1")
not_negative = _number(int, lambda value: value >= 0, "it must not be negative")
zero_or_above = _number(float, lambda value: value >= 0, "it must not be negative")
finite_number = _number(float, math.isfinite, "it must be a finite number")
above_zero = _number(float, lambda value: value > 0, "it must be above 0")
share = _number(float, lambda value: 0 <= value <= 1, "it is a share, between 0 and 1")
seed = _number(int, lambda value: 0 <= value < SEEDS, f"it must be within 0 to {SEEDS - 1}")
port = _number(int, lambda value: 1 <= value < 2**16, f"it must be within 1 to {2**16 - 1}")


def folder_name(text: str) -> str:
    """A `type` of argparse's: what can name a file or folder within another one."""
    if not text.strip() or text in (".", "..") or any(sign in "/\\" or not sign.isprintable() for sign in text):
        wanted = "it names a folder: letters, digits, '-', '_', '.', and no '/'"
        raise argparse.ArgumentTypeError(f"{text!a}; {wanted}")
    size = len(text.encode())
    if size > MAX_NAME_BYTES:
        raise argparse.ArgumentTypeError(f"{text[:20]!a}...; its {size} bytes are above {MAX_NAME_BYTES}")
    return text


def websocket_url(text: str) -> str:
    """A `type` of argparse's: the address of a battle server."""
    if not text.startswith(("ws://", "wss://")):
        raise argparse.ArgumentTypeError(
            f"{shown_path(text)}; give its address, as ws://localhost:8000/showdown/websocket"
        )
    return text


_SHARED: dict[str, dict[str, Any]] = {
    "json": {"action": "store_true", "help": "print one JSON object"},
    "seed": {"type": seed, "default": 0, "help": "of teams and draws (default: %(default)s)"},
    "ckpt": {"type": whole_number, "help": "the epoch of the checkpoint (default: the last)"},
    "device": {"help": "cpu, cuda, ... (default: cuda where there is one)"},
    "concurrency": {"type": at_least_one, "default": 16, "help": "battles at a time (default: %(default)s)"},
    "temperature": {"type": above_zero, "default": 1.0, "help": "of the policy (default: %(default)s)"},
    "timeout_s": {"type": above_zero, "default": 60, "help": "give up after this silence (default: %(default)s)"},
    "team_dir": {
        "type": Path,
        "help": "a folder of teams in Showdown's export format, NAME.<format>_team (default: the packaged teams)",
    },
    "max_set_aside": {
        "type": share,
        "default": 0.05,
        "help": "share of damaged battle files above which it stops (default: %(default)s)",
    },
    "server": {
        "type": websocket_url,
        "help": "ws://... of a running server without accounts (default: the simulator in processes of its own)",
    },
    "ray": {
        "metavar": "ADDRESS",
        "help": "work on the processors and GPUs of a Ray cluster (extra `ray`): HOST:PORT of its head, auto, or local "
        "for one on this machine with --workers processors; --concurrency is then of each processor",
    },
    "workers": {
        "type": at_least_one,
        "default": min(os.cpu_count() or 1, MOST_WORKERS),
        "help": "processes that play: a Python and a simulator each between scripted players, simulators alone where a "
        f"checkpoint plays; the battles are the same for any number (default: one per core, at most {MOST_WORKERS})",
    },
}


def add_shared_argument(parser: "argparse._ActionsContainer", name: str, **changes: Any) -> None:
    """A flag that several commands have, with its type, default and help; `changes` are of this command alone."""
    parser.add_argument(f"--{name}", **(_SHARED[name] | changes))


def refuse_void(args: argparse.Namespace, usual: Mapping[str, object], why: str) -> None:
    """Raises ConfigError for the first of some flags that was given another value than its default, and means nothing.

    Args:
        args: of the command line.
        usual: flag -> its default.
        why: it means nothing, as in "without --eval_gens no checkpoint plays".
    """
    for flag, default in usual.items():
        value = getattr(args, flag)
        if value != default:
            said = " ".join(map(str, value)) if isinstance(value, list) else "" if value is True else str(value)
            raise ConfigError(f"--{flag}{said and ' '}{shown_path(said)} changes nothing: {why}; leave it out")


_CUSTOM_SHARE = 0.25


def add_custom_share_argument(parser: "argparse._ActionsContainer") -> None:
    """How often the battles of --custom_replay_dir are drawn, under both of metamon's names for it."""
    parser.add_argument(
        "--custom_replay_sample_weight",
        "--custom_replay_weight",
        type=share,
        default=_CUSTOM_SHARE,
        help="share of battles drawn from custom_replay_dir (default: %(default)s)",
    )


def check_custom_share(args: argparse.Namespace) -> None:
    """Raises ConfigError for a share of battles of which there are none."""
    if args.custom_replay_dir is None:
        why = "without --custom_replay_dir all are of one folder"
        refuse_void(args, {"custom_replay_sample_weight": _CUSTOM_SHARE}, why)


def make_folder(folder: Path, flag: str) -> None:
    """Raises ConfigError for a folder, the value of this flag, that cannot be made or written to.

    Commands that write to object stores have put a folder of this machine in the place of an address before.
    """
    if address := address_of(folder):
        raise ConfigError(
            f"--{flag} {shown_path(address)} is no folder of this machine, where this command writes; name one, and "
            "copy it there afterwards"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--{flag} {folder} cannot be made ({error.strerror}); name another folder") from error
    require_writable(folder, flag)


@contextmanager
def made_folder(folder: Path, flag: str) -> Iterator[None]:
    """`make_folder`, and where the block raises before anything is written there, it is taken away again."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        make_folder(folder, flag)
        yield
    except BaseException:
        with suppress(OSError):  # something is in it
            for each in made:
                each.rmdir()
        raise


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


def fetch_registered(args: argparse.Namespace) -> None:
    """Puts a folder of this machine in the place of each path "registry:NAME@3". Raises as `local_folder`.

    Texts of players, and what takes RUN@EPOCH, are read where they are taken apart, some more than once and some hours
    later. So in these the version takes the place of the stage now: who is promoted meanwhile changes nothing.
    """
    place = getattr(args, "registry", None)

    def found(value: object) -> object:
        if isinstance(value, Path):
            return local_folder(value, place)
        return pinned(value, place) if isinstance(value, str) else value

    for name, given in vars(args).items():
        setattr(args, name, [found(value) for value in given] if isinstance(given, list) else found(given))


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
    """--tokenizer; see `load_view`."""
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
    """--watch; see `load_watcher`."""
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
    """--train_gin_config, --trust_config and --gin_override; the model's config is each command's own."""
    parser.add_argument("--train_gin_config", help="a packaged training config's name, or a path to one")
    parser.add_argument(
        "--trust_config",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules or packages that your own .gin files may import, too: their code is run (default: none)",
    )
    add_override_argument(parser)


def add_override_argument(parser: "argparse._ActionsContainer") -> None:
    """--gin_override, which may be repeated."""
    parser.add_argument(
        "--gin_override",
        action="append",
        default=[],
        metavar="'NAME.PARAMETER = VALUE'",
        help="a gin binding applied after the files; repeatable",
    )
