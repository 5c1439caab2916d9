"""Ray, begun on this machine or found at an address, and what it has to work with."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import ray

from gemma_metamon import __version__
from gemma_metamon.errors import ConfigError, ServerError

LOCAL = "local"
_SETTINGS = {
    "RAY_worker_niceness": "0",  # of 15, which is usual, players hardly go on beside other work
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report its use to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or it warns that actors without a GPU will see the machine's
}


@contextmanager
def connected(address: str, *, workers: int) -> Iterator[None]:
    """Ray, for the length of the block. Where this process is connected already, it stays so afterwards.

    What is printed meanwhile goes to stderr: Ray prints what it hears of lost nodes, and stdout is for results.

    Args:
        address: "local" begins Ray on this machine and ends it afterwards; "auto", or HOST:PORT of a cluster's head, is
            one that runs: what is working there for others stays.
        workers: processors to work with on this machine; a cluster that runs has its own count.

    Raises:
        ConfigError: a Ray client's address, by which nothing streams back.
        ServerError: there is no Ray to be found, or none can be begun.
    """
    if address.startswith("ray://"):
        raise ConfigError(f"--ray {address} is the address of a Ray client; give HOST:PORT of the head (6379), or auto")
    if ray.is_initialized():
        with redirect_stdout(sys.stderr):
            yield
        return
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    options = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    try:
        with _own_signals():
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **options
            )
    except Exception as error:  # of a node that does not come up in its 30 seconds, Ray raises a bare one
        first = str(error).strip().partition("\n")[0].rstrip(".")
        said = "no Ray can be reached ({}); begin one with `ray start --head`, or give --ray local"
        if address == LOCAL:
            said = "Ray did not begin here ({}); run the command again where the machine is less busy, or without --ray"
        raise ServerError(f"--ray {address}: {said.format(first)}") from error
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """SIGTERM after the block does what it did before: Ray would end this process at once, by an abort."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def n_processors() -> int:
    """How many the cluster's nodes have together; at least one."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def n_gpus() -> int:
    """How many the cluster's nodes have together."""
    return int(ray.cluster_resources().get("GPU", 0))


def living_nodes() -> list[str]:
    """The ids of the nodes that work."""
    return sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])


def require_same_version(there: str) -> None:
    """Raises ConfigError where a node has another version of this package than this process."""
    if there != __version__:
        raise ConfigError(
            f"a node of the cluster has gemma_metamon {there}, and this is {__version__}; install one version on all"
        )
