"""What of a run is registered: the files that its model needs to play, and what the run knows of it."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.registry.manifests import CARD, Kind
from gemma_metamon.results.json_lines import read_json_lines
from gemma_metamon.runs.checkpoints import META, WEIGHTS, Checkpoint, list_checkpoints
from gemma_metamon.strict_json import read_json_object

logger = logging.getLogger(__name__)

RUN: Final = "run.json"
SUFFIXES: Final = (".safetensors", ".json", ".jinja", ".model", ".txt", ".gin")
"""Of what is registered of a chat model's folder: nothing that could hold code."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a card tells of a model.

    Attributes:
        kind: what it is.
        label: of what it comes from, as in evaluations: first@3.
        base: the hub name of the Gemma that it began with, or the name of a folder; None of random weights.
        progress: how far training was, name -> value.
        learnt: how it was trained, name -> value; folders by their last name.
        config: the resolved gin configuration of an agent, else "".
        uses_critics: whether an agent learnt by critics.
    """

    kind: Kind
    label: str
    base: str | None
    progress: dict[str, Any] = field(default_factory=dict)
    learnt: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    uses_critics: bool = False


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is registered of a run.

    Attributes:
        facts: for its card.
        run_dir: the run's folder, or that of a model.
        epoch: of its checkpoint; None of a plain folder.
        files: name beneath a run's folder -> the file.
    """

    facts: Facts
    run_dir: Path
    epoch: int | None
    files: dict[str, Path]


def find_contents(kind: Kind, run_dir: Path, epoch: int | None = None) -> Contents:
    """What is to be registered of a run, once it is known that its model can be built.

    Args:
        kind: "agent" of `train`, "text" of `sft` or `grpo`, "vision" of `vlm train`.
        run_dir: its folder; of the last two also that of a model, which has no epochs.
        epoch: of its checkpoint; None is the last.

    Raises:
        MissingFileError: no such run or checkpoint.
        ConfigError: a run of another kind.
        DataError, CheckpointMismatchError: an agent that this version cannot load.
    """
    if kind == "agent":
        if (run_dir / RUN).is_file() or (run_dir / "config.json").is_file():
            raise ConfigError(f"{run_dir} holds a chat model; write text:{run_dir}, or vlm:{run_dir} if it sees")
        return _agent(Checkpoint.find(run_dir, epoch))
    return _chat_model(kind, run_dir, epoch)


def _agent(checkpoint: Checkpoint) -> Contents:
    from gemma_metamon.runs.loading import load_described, require_fit

    meta = checkpoint.read_meta()
    agent: Any
    _, agent = load_described(meta, str(checkpoint.folder))
    require_fit(agent, checkpoint)
    options = getattr(agent.tstep_encoder, "options", None)
    facts = Facts(
        kind="agent",
        label=checkpoint.label,
        base=_base(options.model_name) if options is not None and options.pretrained else None,
        progress={
            "epoch": meta.epoch,
            "updates": meta.updates,
            "windows of battles learnt from": meta.draws,
            "parameters": sum(parameter.numel() for parameter in agent.parameters()),
        },
        learnt={**vars(meta.identity), **_by_last_name(meta.settings)},
        config=meta.config,
        uses_critics=agent.uses_critics,
    )
    names = [f"ckpts/epoch_{checkpoint.epoch}/{name}" for name in (WEIGHTS, META)]
    files = {name: checkpoint.run_dir / name for name in names}
    return Contents(facts=facts, run_dir=checkpoint.run_dir, epoch=checkpoint.epoch, files=files)


def _chat_model(kind: Kind, run_dir: Path, epoch: int | None) -> Contents:
    from gemma_metamon.language.models.chat_model import DESCRIPTION, SEEING_DESCRIPTION
    from gemma_metamon.language.training.fine_tuning import find_model, run_of

    folder = find_model(run_dir, epoch)
    sees = (folder / SEEING_DESCRIPTION).is_file() or (folder / "form.json").is_file()
    if sees != (kind == "vision"):
        raise ConfigError(
            f"{run_dir} holds a model that {'sees; write vlm:' if sees else 'reads; write text:'}{run_dir}"
        )
    own, label = run_of(folder)
    files = {str(path.relative_to(own)): path for path in _kept(folder)}
    if own != folder and (own / RUN).is_file():
        files[RUN] = own / RUN
    if not any(name.endswith(".safetensors") for name in files):
        raise MissingFileError(f"{folder} holds no weights in safetensors; name a run, or a folder with a Gemma 3")
    plan = _read(folder / SEEING_DESCRIPTION) if sees else _read(folder / DESCRIPTION).get("plan", {})
    base = plan.get("model") if plan else _read(folder / "config.json").get("_name_or_path") or folder.resolve().name
    run = _read(own / RUN) if own != folder else {}
    progress = {} if own == folder else {"epoch": int(folder.name.removeprefix("epoch_"))}
    model = run.get("start", {}).get("model")  # of grpo: `plan` is that of the run which it began with
    rewards = [f"{name}={weight}" for name, weight in run.get("rewards", {}).items()]
    learnt = {
        **plan,
        "began_with": None if model is None else _base(str(model)),
        **run.get("settings", {}),
        "rewards": rewards or None,
        **run.get("battles", {}),
        **run.get("form", {}),
    }
    facts = Facts(
        kind=kind,
        label=label,
        base=None if base == "tiny" else _base(str(base)),
        progress=progress,
        learnt=_by_last_name(learnt),
    )
    return Contents(facts=facts, run_dir=own, epoch=progress.get("epoch"), files=files)


def measured_when_saved(contents: Contents) -> dict[str, float]:
    """What training measured on held-out decisions of the very checkpoint that is registered; empty where nothing."""
    path = contents.run_dir / "metrics.jsonl"
    if not path.is_file() or contents.epoch is None:
        return {}
    found: dict[int, dict[str, float]] = {}  # update -> name -> value
    for row in read_json_lines(path):
        measured = {name: value for name, value in row.items() if name.startswith("held_out/")}
        if measured:
            update = row.get("update", -1)
            found[update] = found.get(update, {}) | measured
    if contents.facts.kind == "agent":
        return found.get(contents.facts.progress["updates"], {})
    # a chat model's folder does not tell its updates, but each of its epochs is measured once
    after_epochs = [measured for update, measured in sorted(found.items()) if update > 0]
    epochs = list_checkpoints(contents.run_dir)[-1]
    return after_epochs[contents.epoch - 1] if contents.epoch and len(after_epochs) == epochs else {}


def _kept(folder: Path) -> Iterable[Path]:
    left = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in SUFFIXES and not path.name.startswith("."):
            yield path
        elif path.name != CARD:
            left.append(path.name)
    if left:
        logger.info("not registered of %s: %s", folder, ", ".join(left))


def _base(name: str) -> str:
    """A hub name as it is, a folder by its last name: where it lay is nobody's business."""
    return Path(name).name if Path(name).is_absolute() or name.startswith((".", "~")) or Path(name).is_dir() else name


def _by_last_name(settings: dict[str, Any]) -> dict[str, Any]:
    def shortened(value: Any) -> Any:
        if isinstance(value, list):
            return [shortened(each) for each in value]
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return {name: shortened(value) for name, value in settings.items()}


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}
