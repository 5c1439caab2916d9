"""A cluster of Ray for the tests of this folder: a head with one processor, to which nodes may be added."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Of ray.cluster_utils; this process is connected to it."""
    ray = pytest.importorskip("ray", reason="needs the extra: pip install 'gemma-metamon[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # of 15, which is usual, work hardly goes on beside other tests
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()
