"""An agent small enough for a test to train: gemma_tiny with one narrow layer of everything."""

from pathlib import Path

from conftest import GOLDENS

TINY = "gemma_tiny_multitaskagent.gin"
BATTLES = GOLDENS / "battles"
SMALL = [
    "GemmaTstepEncoder.backbone_config = {'hidden_size': 16, 'intermediate_size': 16, 'num_hidden_layers': 1, "
    "'num_attention_heads': 1, 'num_key_value_heads': 1, 'head_dim': 16, 'layer_types': ['full_attention']}",
    "GemmaTstepEncoder.text_emb_dim = 16",
    "GemmaTstepEncoder.summary_tokens = 2",
    "GemmaTstepEncoder.numerical_emb_dim = 16",
    "TformerTrajEncoder.d_model = 16",
    "TformerTrajEncoder.d_ff = 16",
    "TformerTrajEncoder.n_layers = 1",
    "TformerTrajEncoder.n_heads = 2",
    "MetamonMaskedActor.d_hidden = 16",
    "NCriticsTwoHot.d_hidden = 16",
    "NCriticsTwoHot.output_bins = 8",
    "MetamonAMAGOExperiment.max_seq_len = 12",
    "MetamonAMAGOExperiment.lr_warmup_steps = 2",
]


def train_command(
    save_dir: Path, *extra: str, run_name: str = "run", training: str = "binary_rl.gin", model: str = TINY
) -> list[str]:
    """The arguments of `gemma-metamon train` for a run of seconds."""
    command = ["train", "--run_name", run_name, "--save_dir", str(save_dir), "--model_gin_config", model]
    command += ["--train_gin_config", training, "--parsed_replay_dir", str(BATTLES), "--formats", "gen1ou", "gen9ou"]
    command += ["--batch_size_per_gpu", "2", "--steps_per_epoch", "2", "--epochs", "1", "--holdout_share", "0.2"]
    for override in SMALL:
        command += ["--gin_override", override]
    return [*command, *extra]
