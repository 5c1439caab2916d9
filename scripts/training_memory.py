"""What each packaged model config needs in memory to train, computed without building its weights.

    python scripts/training_memory.py              # --json for programs; some configs alone, or changed:
    python scripts/training_memory.py gemma_agent.gin --gin_override 'GemmaTstepEncoder.lora_r = 32'

In megabytes (1e6 bytes), on a GPU: weights (the frozen base in bfloat16 or 4 bits, all else float32, the slow copies of
actor and critics included), a gradient for each trained weight, AdamW's two moments. Activations come on top; of Gemma
at most a quarter of the GPU's memory (`GemmaTstepEncoder.encoder_chunk_tokens`).
"""

from collections.abc import Iterable
from typing import Any

from checkpoint_sizes import checkpoint_bytes, count_bytes, frozen_base_bytes, meta_agent, print_table

COLUMNS = ("trained", "weights", "gradients", "moments", "states", "checkpoint")


def main() -> None:
    print_table(__doc__, training_bytes, COLUMNS, unit="MB (trained: millions)")


def training_bytes(model_gin_config: str, overrides: Iterable[str] = ()) -> dict[str, int]:
    """Bytes of each of COLUMNS but `trained`, which counts weights, with the default spaces and vocabulary."""
    agent: Any = meta_agent(model_gin_config, overrides)
    trained = agent.trainable_parameters()
    weights = count_bytes(agent.state_dict().values()) + frozen_base_bytes(agent.tstep_encoder)
    gradients = count_bytes(trained)
    sizes = checkpoint_bytes(model_gin_config, overrides)
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
