"""From a checkpoint on disk to the agent that it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.errors import CheckpointMismatchError, ConfigError
from gemma_metamon.nets.agents.acting import prepare_to_act
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint
from gemma_metamon.runs.experiment import build_without_weights
from gemma_metamon.runs.identity import CheckpointMeta, RunDescription, RunIdentity
from gemma_metamon.runs.shards import divide_as
from gemma_metamon.runs.tensor_files import damaged, fits_type, read_headers
from gemma_metamon.strict_json import on_one_line
from gemma_metamon.view import BattleView

CONFIG_FLAGS: Final = ("model_gin_config", "train_gin_config")
_TEXT_OF_4BIT = ".quant_state."  # bitsandbytes keeps a number there in digits, as many as it has


@dataclass(frozen=True, kw_only=True)
class Playable:
    """A checkpoint's agent, ready to act, with all that a player of it needs.

    Attributes:
        agent: in eval mode, on its device; it cannot be trained any more.
        view: what it is shown and may do.
        meta: how the checkpoint was made.
    """

    agent: Any
    view: BattleView
    meta: CheckpointMeta


def load_for_play(checkpoint: Checkpoint, device: str | None = None, dtype: str = "float32") -> Playable:
    """The agent of a checkpoint as every command lets it play. Loads its configuration into gin.

    Args:
        checkpoint: of `Checkpoint.find` or `Checkpoint.find_named`.
        device: None is CUDA where there is some, else the CPU.
        dtype: of the largest weights, "float32" or "bfloat16"; see `prepare_to_act`.

    Raises:
        ConfigError: another dtype, or a device that cannot be used.
        DataError, CheckpointMismatchError: as `load_agent`.
    """
    agent, meta = load_agent(checkpoint, device)
    prepare_to_act(agent, dtype)
    return Playable(agent=agent, view=meta.view(), meta=meta)


def load_agent(checkpoint: Checkpoint, device: str | None = None) -> tuple[nn.Module, CheckpointMeta]:
    """The agent of a checkpoint with its weights as they were saved, in eval mode. Loads its configuration into gin.

    Its adapters stay apart from Gemma's weights, for whoever looks at them; to play, see `load_for_play`. Copies that
    are there for learning alone are given up.

    Args:
        checkpoint: of `Checkpoint.find` or `Checkpoint.find_named`.
        device: None is CUDA where there is some, else the CPU.

    Raises:
        ConfigError: a device that torch does not know or that is not there.
        DataError: a damaged checkpoint.
        CheckpointMismatchError: one that this version of the package would read differently.
    """
    chosen = usable_device(device)
    meta = checkpoint.read_meta()
    view, _ = load_described(meta, str(checkpoint.folder))
    agent: Any = configurable(EXPERIMENT)().build_agent(view)
    load_weights(agent, checkpoint)
    agent.keep_what_acts()
    return agent.to(chosen).eval(), meta


def require_loadable(checkpoint: Checkpoint) -> None:
    """Looks at all of a checkpoint but its numbers, in no time. Raises as load_agent does, and loads the same gin."""
    _, agent = load_described(checkpoint.read_meta(), str(checkpoint.folder))
    require_fit(agent, checkpoint)


def load_described(description: RunDescription, source: str) -> tuple[BattleView, nn.Module]:
    """Loads the configuration of a run into gin; returns its view, and its agent on torch's meta device.

    Args:
        description: of the run.
        source: the file or folder that it is of, for errors.

    Raises:
        ConfigError: a configuration that this version does not take.
        CheckpointMismatchError: this version would show the agent other words than it was trained with.
    """
    resolve.load_text(description.config)
    view = description.view()
    agent: Any = build_without_weights(view)
    description.identity.require(RunIdentity.of(view, agent.tstep_encoder), source)
    return view, agent


def usable_device(name: str | None) -> torch.device:
    """The device of that name; None is CUDA where there is some, else the CPU. Raises ConfigError if it is no use."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # which of the two, depends on torch's build
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used ({reason}); leave it out, or name 'cpu'") from error
    return device


def load_weights(agent: Any, checkpoint: Checkpoint, *, as_start: bool = False) -> None:
    """Into an agent as the checkpoint's own, or into one that is to begin with them (see its `starting_state`).

    Raises CheckpointMismatchError naming the entries that do not fit, DataError where the file is damaged.
    """
    folder, saved, wanted = checkpoint.folder, checkpoint.read_weights(), agent.state_dict()
    if as_start:
        saved = agent.starting_state(saved)
    mend = "load it with the config it was trained with (saved in its checkpoint.json)"
    require_same_entries(saved, wanted, str(folder), mend)
    for key, tensor in wanted.items():
        if not fits_type(saved[key], tensor):
            raise CheckpointMismatchError(f"{folder} has {key} in {saved[key].dtype}, not {tensor.dtype}; {mend}")
    try:
        agent.load_state_dict({key: divide_as(saved[key], own) for key, own in wanted.items()})
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:  # of bitsandbytes' 4 bits
        raise damaged(folder / WEIGHTS, error) from error


def require_fit(agent: nn.Module, checkpoint: Checkpoint) -> None:
    """For an agent that is to begin with these weights and may still be on the meta device: its shapes are theirs.

    Raises CheckpointMismatchError naming those that are not, and DataError where the file is damaged.
    """
    if other := other_shapes(agent, checkpoint):
        raise CheckpointMismatchError(
            f"{checkpoint.folder} has {len(other)} entries of another shape than this agent ({', '.join(other[:3])}); "
            f"begin with a run of the same model config ({made_with(checkpoint)}), discounts (imitation has those of "
            "reinforcement learning with --gin_override 'MultiTaskAgent.use_multigamma = True') and critics' bins"
        )


def other_shapes(agent: nn.Module, checkpoint: Checkpoint) -> list[str]:
    """The saved entries that have another shape in an agent, as "popart.mu is [1, 1], not [7, 1]".

    The agent may be on the meta device. Raises DataError where the file is damaged.
    """
    wanted = {key: [*tensor.shape] for key, tensor in agent.state_dict().items()}
    saved = read_headers(checkpoint.folder / WEIGHTS)
    # what is kept in 4 bits has its shape only on its device
    shapes = {key: header.shape for key, header in saved.items() if key in wanted and header.type_name != "U8"}
    return [f"{key} is {shape}, not {wanted[key]}" for key, shape in shapes.items() if shape != wanted[key]]


def made_with(checkpoint: Checkpoint) -> str:
    """The configs that the command line named for a checkpoint, for sentences."""
    settings = checkpoint.read_meta().settings
    named = [f"--{name} {on_one_line(settings[name])}" for name in CONFIG_FLAGS if settings.get(name)]
    return f"it was made with {' '.join(named)}" if named else "its own is in its checkpoint.json"


def require_same_entries(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str, mend: str) -> None:
    """Raises CheckpointMismatchError counting and naming what is missing, extra or of another shape in `saved`."""
    wrong = {
        "missing": [key for key in wanted if key not in saved],
        "extra": [key for key in saved if key not in wanted],
        "misshapen": [
            f"{key} is {[*saved[key].shape]}, not {[*tensor.shape]}"
            for key, tensor in wanted.items()
            if key in saved and saved[key].shape != tensor.shape and _TEXT_OF_4BIT not in key
        ],
    }
    found = [
        f"{len(entries)} {kind} ({', '.join(map(on_one_line, entries[:3]))}{', ...' if len(entries) > 3 else ''})"
        for kind, entries in wrong.items()
        if entries
    ]
    if found:
        raise CheckpointMismatchError(
            f"{source} does not fit this agent, its entries are not the same: {', '.join(found)}; {mend}"
        )
