"""How large the checkpoints of each packaged model config are, computed without building their weights.

    python scripts/checkpoint_sizes.py              # --json for programs; some configs alone, or changed:
    python scripts/checkpoint_sizes.py gemma_agent.gin --gin_override 'GemmaTstepEncoder.lora_r = 32'

In megabytes (1e6 bytes) of tensors; names add less than 0.5 kB each. `training` is training.safetensors (AdamW's
moments), `amago` what `gemma-metamon export --to amago` writes. A pretrained frozen base is in no file; "+ base" is
what the file would be with it, the base as a GPU has it: in bfloat16, or in 4 bits where the config says so.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gemma_metamon.configs.files import list_configs
from gemma_metamon.configs.names import EXPERIMENT, bound_value, configurable
from gemma_metamon.nets.reader.four_bit import quantise_linears
from gemma_metamon.runs import resolve
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.view import BattleView

COLUMNS = ("weights", "weights + base", "training", "amago", "amago + base")


def main() -> None:
    print_table(__doc__, checkpoint_bytes, COLUMNS)


def print_table(
    description: str | None,
    measure: Callable[[str, Sequence[str]], dict[str, int]],
    columns: Sequence[str],
    unit: str = "MB",
) -> None:
    """What `measure` says of model configs and gin overrides, in millions, as the command line asks for it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list_configs("models"), help="(default: all packaged ones)")
    parser.add_argument("--gin_override", action="append", default=[], metavar="BINDING", help="may be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    logging.disable()  # gin reports every folder in which an included file is not
    sizes = {name: measure(name, args.gin_override) for name in args.configs}
    megabytes = {name: {column: round(size / 1e6, 1) for column, size in row.items()} for name, row in sizes.items()}
    if args.json:
        print(json.dumps(megabytes))
        return
    print(f"{unit:44}" + "".join(f"{column:>16}" for column in columns))
    for name, row in megabytes.items():
        print(f"{name:44}" + "".join(f"{row[column]:16,.1f}" for column in columns))


def meta_agent(model_gin_config: str, overrides: Iterable[str] = ()) -> Any:
    """The agent of a config as a GPU would have it, without weights, for the default spaces and vocabulary."""
    resolve.load(model_gin_config, overrides=[*overrides])
    bound = {name: bound_value("GemmaTstepEncoder", name) for name in ("pretrained", "use_lora")}
    frozen = bound["use_lora"] or bound_value("GemmaTstepEncoder", "freeze_base_model")
    if bound["pretrained"] and frozen:  # there the frozen base is bfloat16; one that trains is float32
        resolve.load(model_gin_config, overrides=["GemmaTstepEncoder.dtype = 'bfloat16'", *overrides])
    experiment: Experiment = configurable(EXPERIMENT)()
    view = BattleView.default()
    with torch.device("meta"):
        return experiment.build_agent(view)


def checkpoint_bytes(model_gin_config: str, overrides: Iterable[str] = ()) -> dict[str, int]:
    """Bytes of tensors for each of COLUMNS, with the default spaces and vocabulary."""
    agent = meta_agent(model_gin_config, overrides)
    trained = agent.trainable_parameters()
    weights = count_bytes(agent.state_dict().values())
    with_base = weights + frozen_base_bytes(agent.tstep_encoder)
    return {
        "weights": weights,
        "weights + base": with_base,
        # two moments and a count of updates each
        "training": 2 * count_bytes(trained) + 4 * len(trained) + count_bytes([torch.get_rng_state()]),
        "amago": weights,
        "amago + base": with_base,
    }


def frozen_base_bytes(encoder: Any) -> int:
    """Of what the encoder's state leaves out."""
    base = encoder.backbone.state_dict(prefix="backbone.")
    total = count_bytes(base[key] for key in base.keys() - encoder.state_dict().keys())
    if total and encoder.options.use_4bit:  # on the meta device the linear layers are whole
        for name, layer in encoder.backbone.named_modules():
            if isinstance(layer, nn.Linear) and ".lora_" not in name:
                total += packed_bytes(layer.in_features, layer.out_features) - count_bytes([layer.weight])
    return total


@cache
def packed_bytes(in_features: int, out_features: int) -> int:
    """A weight in 4 bits with its scales, from a real one of that shape."""
    layers = nn.Sequential(nn.Linear(in_features, out_features, bias=False))
    quantise_linears(layers)
    return count_bytes(layers.state_dict().values())


def count_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


if __name__ == "__main__":
    main()
