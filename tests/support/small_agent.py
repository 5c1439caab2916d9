"""An agent small enough for a test to train: gemma_tiny with one narrow layer of everything."""

from pathlib import Path
from typing import Any

from support.paths import GOLDENS
from tiny_agent import OVERRIDES

TINY = "gemma_tiny_multitaskagent.gin"
BATTLES = GOLDENS / "battles"
SMALL = [
    *OVERRIDES,
    "MetamonAMAGOExperiment.max_seq_len = 12",
    "MetamonAMAGOExperiment.lr_warmup_steps = 2",
]

BACKBONE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 512,
    "layer_types": ["sliding_attention", "full_attention"],
    "initializer_range": 0.2,
}
"""Of Gemma's architecture, with one layer of each kind."""


def train_command(
    save_dir: Path,
    *extra: str,
    run_name: str = "run",
    training: str = "binary_rl.gin",
    model: str = TINY,
    lacks: tuple[str, ...] = (),
) -> list[str]:
    """The arguments of `gemma-metamon train` for a run of seconds; no override of what the model `lacks`."""
    command = ["train", "--run_name", run_name, "--save_dir", str(save_dir), "--model_gin_config", model]
    command += ["--train_gin_config", training, "--parsed_replay_dir", str(BATTLES), "--formats", "gen1ou", "gen9ou"]
    command += ["--batch_size_per_gpu", "2", "--steps_per_epoch", "2", "--epochs", "1", "--holdout_share", "0.2"]
    for override in SMALL:
        if override.partition(".")[0] not in lacks:
            command += ["--gin_override", override]
    return [*command, *extra]
