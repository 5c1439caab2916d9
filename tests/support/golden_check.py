"""Which goldens there are, what compares them, and how far ours may be from AMAGO's.

TOLERANCES are what an independent re-computation from the rules alone reached on the same numbers (relative to
1 + |value|, float32 on a CPU), or less where that would let a wrong rule pass. EXCEPTIONS may be ten times as far, each
for the reason that stands beside it.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from support.amago_goldens import Golden
from support.golden_agents import compare_acting, compare_agent, compare_optimizer, compare_state_dict_keys
from support.golden_finetune import compare_finetune
from support.golden_modules import (
    compare_actor,
    compare_critic,
    compare_filters,
    compare_misc,
    compare_nstep,
    compare_popart,
    compare_traj_encoder,
)
from support.golden_trainings import compare_batch_filters, compare_hlgauss, compare_training

COMPARERS = {
    "acting": compare_acting,
    "actor": compare_actor,
    "agent": compare_agent,
    "batch_filters": compare_batch_filters,
    "critic": compare_critic,
    "filters": compare_filters,
    "finetune": compare_finetune,
    "hlgauss": compare_hlgauss,
    "misc": compare_misc,
    "nstep": compare_nstep,
    "optimizer": compare_optimizer,
    "popart": compare_popart,
    "trainings": compare_training,
    "traj_encoder": compare_traj_encoder,
}
EXACT = 0.0
# kind/file/array -> the largest relative error; the first pattern that fits counts
TOLERANCES = (
    ("traj_encoder/*", 2e-5),
    ("actor/*", 2e-5),
    ("filters/*", 2e-5),
    ("batch_filters/*", 2e-5),
    ("hlgauss/*", 2e-5),
    ("trainings/*/mid/*", 2e-4),
    ("trainings/*/grads/*", 1e-4),
    ("trainings/*", 2e-5),
    ("misc/*/outputs/learning_rate*", 1e-9),  # the rates themselves are near 1e-4
    ("misc/*", 2e-5),
    ("nstep/*", 2e-5),
    ("critic/*symlog*/outputs/*labels*", 2e-5),
    ("critic/*/outputs/*labels*", 1e-6),
    ("critic/*/outputs/grad_state", 2e-4),
    ("critic/*", 2e-5),
    ("popart/*", 6e-5),
    ("agent/*/acting/outputs/action", EXACT),
    ("agent/*/acting/*", 2e-5),
    ("agent/*/mid/*mask*", EXACT),
    ("agent/*/mid/*embedding", 2e-5),
    ("agent/*/mid/*policy_probs", 2e-5),
    ("agent/*/mid/*_loss", 1e-4),
    ("agent/*/mid/*", 2e-4),  # TD targets, and the values and advantages on the way to them
    ("agent/*/outputs/grad_total_norm*", 2e-4),
    ("agent/*/outputs/*", 1e-4),
    ("agent/*/grad*", 2e-4),
    ("agent/*/after/popart*", 6e-5),
    ("agent/*/after/*", 2e-5),
    ("finetune/*/advantage", 2e-4),
    ("finetune/*/filter", 2e-4),
    ("finetune/*", 2e-5),
    ("optimizer/*/steps/lr*", 1e-9),
    ("optimizer/*/steps/grad*", 2e-4),
    ("optimizer/*/steps/*", 1e-4),
    ("optimizer/*/mid/td_target*", 1e-3),
    ("optimizer/*/norms_after_step/*", 1e-5),  # the updates move them by 1e-4 only
    ("optimizer/*", 3e-4),
    ("state_dict_keys/*", EXACT),
)
# against float64, upstream's own float32 numbers are as far from the truth as ours wherever an exception stands
EXCEPTIONS = (
    ("critic/NCriticsTwoHot_seed*/outputs/raw_values", "a sum of bins up to 1100 that cancels to a value near 0"),
    ("critic/NCriticsTwoHot_seed*/outputs/grad_state", "the same cancellation, differentiated"),
    ("critic/NCriticsTwoHot_seed*/outputs/hlgauss_labels*", "differences of a distribution function near 1"),
    ("traj_encoder/*/grads/*", "gradients of a sum over all outputs, up to 85, whose terms cancel"),
    ("agent/multitask*/mid/*critics_value*", "values near 0 again, from states that already carry rounding"),
    ("agent/multitask*/mid/actor_loss", "-log pi times a weight that grows with the difference of such values"),
)


class Tolerance(NamedTuple):
    """`factor` is 10 for an exception, else 1."""

    base: float
    factor: int

    @property
    def limit(self) -> float:
        return self.base * self.factor


def tolerance(path: str, name: str) -> Tolerance:
    """Of array `name` in file `path` (below the root, with its version folder)."""
    key = f"{path.partition('/')[2]}/{name}"
    base = next(limit for pattern, limit in TOLERANCES if fnmatch(key, pattern))
    return Tolerance(base, 10 if any(fnmatch(key, pattern) for pattern, _ in EXCEPTIONS) else 1)


def golden_paths(root: Path) -> list[str]:
    """The files below root that hold results, without their endings; not those with weights or batches alone.

    Nor those of critics of continuous actions, which a battle has none of.
    """
    files = [*root.glob("amago-*/**/*.npz"), *root.glob("amago-*/state_dict_keys/*.json")]
    return sorted(
        file.relative_to(root).with_suffix("").as_posix()
        for file in files
        if not re.match("params|batch|NCritics_continuous", file.name)
    )


def kind_of(path: str) -> str:
    _, kind, *_, name = path.split("/")
    return "acting" if name == "acting" else kind


def compare(path: str, root: Path) -> dict[str, float]:
    """Name of an array -> the largest relative error of ours."""
    kind = kind_of(path)
    if kind == "state_dict_keys":
        return compare_state_dict_keys(root / f"{path}.json")
    return COMPARERS[kind](Golden(path, root))


def beyond(path: str, errors: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """The arrays that are further off than tolerated: name -> (error, limit). NaN is never near enough."""
    limits = {name: (error, tolerance(path, name).limit) for name, error in errors.items()}
    return {name: pair for name, pair in limits.items() if not pair[0] <= pair[1]}
