"""What a trained agent thinks of recorded decisions: which action it prefers, and what its critics give each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_recorded
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.batch import Batch
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_for_play


class Adviser:
    """The agent of a checkpoint, asked about recorded battles.

    A battle is read in windows of the agent's memory, each as if it began there.

    Args:
        checkpoint: of `Checkpoint.find_named`.
        device: None is CUDA where there is some, else the CPU.
        critics: whether its critics are to be asked.

    Raises:
        ConfigError: its critics are to be asked, and never learned.
        DataError, CheckpointMismatchError: as `load_for_play`.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | None = None, *, critics: bool = False) -> None:
        playable = load_for_play(checkpoint, device)
        self.agent: Any = playable.agent
        self.view = playable.view
        self._memory = int(configurable(EXPERIMENT)().max_seq_len)
        self._device = next(self.agent.parameters()).device
        if critics and not self.agent.uses_critics:
            raise ConfigError(
                f"--critics {checkpoint}: its critics never learned, because it imitates; name a run that was trained "
                "with binary_rl.gin or another config of reinforcement learning"
            )

    def preferred(self, battle: RecordedBattle) -> npt.NDArray[np.int64]:
        """(T - 1,), the action that the agent holds most probable at each decision, in its action space's numbering."""
        probs = [self.agent.action_probs(batch)[0, :-1] for batch in self._windows(battle)]
        found: npt.NDArray[np.int64] = torch.cat(probs).argmax(-1).cpu().numpy()
        return found

    def advantages(self, battle: RecordedBattle) -> npt.NDArray[np.float32]:
        """(T - 1, A), in rewards: what the critics expect of each action, less the mean over the agent's policy."""
        rows = []
        for batch in self._windows(battle):
            probs, values = (found[0, :-1] for found in self.agent.judge_actions(batch))  # (L, A) each
            rows.append(values - (probs * values).sum(-1, keepdim=True))
        found: npt.NDArray[np.float32] = (torch.cat(rows) / self.agent.options.reward_multiplier).cpu().numpy()
        return found

    def _windows(self, battle: RecordedBattle) -> Iterator[Batch]:
        encoded = encode_recorded(battle, self.view)
        for start in range(0, encoded.n_decisions, self._memory):
            yield collate([take_window(encoded, start, self._memory)]).to(self._device)
