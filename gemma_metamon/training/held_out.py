"""What a training measures on battles that it does not train on, and says of it. The main process alone says it.

It alone measures, too, but where a reader's layers are in shards: then no process can read without the others.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from gemma_metamon.data.dataset import Battles
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.runs.checkpoints import Checkpoint, list_checkpoints
from gemma_metamon.runs.loading import load_weights
from gemma_metamon.training.agreement import measure_agreement
from gemma_metamon.training.diagnostics import Diagnostics
from gemma_metamon.view import BattleView

logger = logging.getLogger(__name__)

MOST_BATTLES = 256
"""So many are read at most; what is measured is exact enough with these."""


class HeldOut:
    """Agreement with recorded actions and, where critics are used, their `Diagnostics`.

    Args:
        battles: that are not trained on.
        view: what the agent is shown.
        max_seq_len: the agent's memory, in decisions.
        is_quiet: whether another process says what there is to say.
    """

    def __init__(self, battles: Battles, view: BattleView, max_seq_len: int, *, is_quiet: bool = False) -> None:
        self._battles = battles[:MOST_BATTLES]
        self._view = view
        self._max_seq_len = max_seq_len
        self._is_quiet = is_quiet
        self._diagnostics: Diagnostics | None = None

    def begin(self, agent: Any, epoch: int = 0) -> dict[str, float]:
        """Before the first update of a run: what there is to log. Later policies are compared with this one."""
        if not self._battles:
            return {}
        return self._diagnose(agent, epoch, is_start=True)

    def recall(self, agent: Any, run_dir: Path, anew_at: int) -> None:
        """Of a run that goes on: load the policy that it started from out of that checkpoint, if it is there.

        The agent is left with those weights.

        Args:
            agent: of the run.
            run_dir: of the run.
            anew_at: the update before which it started; 0 of a run that went on all along.
        """
        if self._battles and agent.uses_critics:
            with suppress(GemmaMetamonError, StopIteration):
                epochs = [Checkpoint(run_dir, epoch) for epoch in list_checkpoints(run_dir)]
                start = next(one for one in epochs if one.read_meta().updates == anew_at)
                load_weights(agent, start, as_start=anew_at > 0)
                self._read().remember_start(agent)

    def measure(self, agent: Any, epoch: int) -> dict[str, float]:
        """After an epoch: what there is to log."""
        if not self._battles:
            return {}
        measured: dict[str, float] = {}
        result = measure_agreement(agent, [battle.window for battle in self._read().battles])
        if result is not None:
            logger.info("epoch %d: agrees with %.1f%% of held-out actions", epoch, 100 * result.agreement)
            measured["held_out/agreement"] = result.agreement
        return measured | self._diagnose(agent, epoch)

    def _diagnose(self, agent: Any, epoch: int, *, is_start: bool = False) -> dict[str, float]:
        if not agent.uses_critics:
            return {}
        measured = self._read().measure(agent, is_start=is_start)
        warning = self._read().warning(agent, measured)
        if warning is not None and not self._is_quiet:
            logger.warning("epoch %d: %s", epoch, warning)
        return measured

    def _read(self) -> Diagnostics:
        """The battles, read when they are first needed, once for all epochs."""
        if self._diagnostics is None:
            self._diagnostics = Diagnostics(self._battles, self._view, self._max_seq_len)
        return self._diagnostics
