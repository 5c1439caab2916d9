"""A run as `export --to amago` leaves it."""

from pathlib import Path

from support.run_files import identity_of
from support.small_agent import TINY

from gemma_metamon.runs import resolve
from gemma_metamon.runs.identity import RunDescription
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.view import BattleView

NOT_UPSTREAMS = [
    "MultiTaskAgent.value_estimate = 'exact'",
    "MultiTaskAgent.amago_version = '3.1'",
    "MultiTaskAgent.advantage = 'target'",
    "MultiTaskAgent.lambda_return = None",
    "MultiTaskAgent.baseline = 'state'",
    "MultiTaskAgent.critics_train_trunk = False",
    "MultiTaskAgent.critic_warmup = 'wait'",
    "MultiTaskAgent.critic_warmup_updates = 250",
]


def write_run(run_dir: Path, *, epochs: tuple[int, ...] = (0, 2, 4), words: list[str] | None = None) -> Path:
    """A run as `export --to amago` leaves it, its weights empty files."""
    view = BattleView.from_names(
        obs_space="ExpandedObservationSpace",
        action_space="MinimalActionSpace",
        reward_function="BinaryReward",
        vocabulary=None if words is None else Vocabulary.from_words(words),
    )
    overrides = ["GemmaTstepEncoder.numerical_emb_dim = 32", *NOT_UPSTREAMS]
    config = resolve.load(TINY, "binary_rl.gin", overrides).text
    weights = run_dir / "ckpts" / "policy_weights"
    weights.mkdir(parents=True)
    for epoch in epochs:
        (weights / f"policy_epoch_{epoch}.pt").touch()
    description = RunDescription(identity=identity_of(view), config=config, vocabulary=words)
    description.write(description_of(run_dir))
    return run_dir


def description_of(run_dir: Path) -> Path:
    return run_dir / "ckpts" / "gemma_metamon.json"
