"""Critics alone on a frozen policy, in a process of metamon's.

With online_coeff and offline_coeff 0, amago 3.3 trains critics and encoders, so that the policy, which reads the
encoders' states, changes without having learned anything; amago 3.1 ends with an AttributeError in its first update.
Here the policy is frozen when amago has built it; the classes are amago's, unchanged.
"""

import logging
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.hooks import RemovableHandle

from gemma_metamon.errors import ConfigError

logger = logging.getLogger(__name__)

LAST_PART = "target_actor"
"""What amago's agents build last, in all versions."""
POLICY = ("tstep_encoder", "traj_encoder", "actor")


def freeze_policies() -> RemovableHandle:
    """In every agent of amago's whose critics are to learn alone, the policy stays as it is; until it is removed."""
    return register_module_module_registration_hook(_after_last_part)


def _after_last_part(agent: Any, name: str, _part: nn.Module | None) -> None:
    if name != LAST_PART or not _is_amagos(agent) or agent.online_coeff > 0 or agent.offline_coeff > 0:
        return
    if not hasattr(agent, "critic_loss_weight"):
        raise ConfigError(
            "online_coeff and offline_coeff are 0, but amago 3.1 cannot train critics alone; do this stage with "
            "`gemma-metamon train`, which takes the same configs, and export the result "
            "(`gemma-metamon export --to amago`), or use amago 3.3 or newer"
        )
    for part in POLICY:
        module: nn.Module = getattr(agent, part)
        module.requires_grad_(False)
        module.register_forward_pre_hook(_stay_in_eval_mode)
    # not info: metamon's scripts set up no logging, which leaves warnings alone
    logger.warning("online_coeff and offline_coeff are 0: the critics train alone, encoders and actor are frozen")


def _is_amagos(agent: nn.Module) -> bool:
    return any(kind.__module__ == "amago.agent" for kind in type(agent).__mro__)


def _stay_in_eval_mode(module: nn.Module, _inputs: Any) -> None:
    """Without dropout, and with the sigmas of its layers at rest, whatever mode the agent is in."""
    if module.training:
        module.eval()
