"""What each packaged model config needs in memory to train, computed without building its weights.

    python scripts/training_memory.py              # --json for programs

In megabytes (1e6 bytes), on a GPU: weights (the frozen base in bfloat16 or 4 bits, all else float32, the slow copies of
actor and critics included), a gradient for each trained weight, AdamW's two moments. Activations come on top; of Gemma
at most a quarter of the GPU's memory (`GemmaTstepEncoder.encoder_chunk_tokens`).
"""

import argparse
import json
import logging
from typing import Any

from checkpoint_sizes import checkpoint_bytes, count_bytes, frozen_base_bytes, meta_agent

from gemma_metamon import configs

COLUMNS = ("trained", "weights", "gradients", "moments", "states", "checkpoint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    logging.disable()  # gin reports every folder in which an included file is not
    table = {name: training_bytes(name) for name in configs.list_configs("models")}
    megabytes = {name: {column: round(size / 1e6, 1) for column, size in row.items()} for name, row in table.items()}
    if args.json:
        print(json.dumps(megabytes))
        return
    print(f"{'MB (trained: millions)':44}" + "".join(f"{column:>12}" for column in COLUMNS))
    for name, row in megabytes.items():
        print(f"{name:44}" + "".join(f"{row[column]:12,.1f}" for column in COLUMNS))


def training_bytes(model_gin_config: str) -> dict[str, int]:
    """Bytes of each of COLUMNS but `trained`, which counts weights, with the default spaces and vocabulary."""
    agent: Any = meta_agent(model_gin_config)
    trained = agent.trainable_parameters()
    weights = count_bytes(agent.state_dict().values()) + frozen_base_bytes(agent.tstep_encoder)
    gradients = count_bytes(trained)
    sizes = checkpoint_bytes(model_gin_config)
    return {
        "trained": sum(parameter.numel() for parameter in trained),
        "weights": weights,
        "gradients": gradients,
        "moments": 2 * gradients,
        "states": weights + 3 * gradients,
        "checkpoint": sizes["weights"] + sizes["training"],
    }


if __name__ == "__main__":
    main()
