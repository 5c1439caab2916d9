"""Whether an agent is of a size that can be, asked of one on torch's meta device, before there are weights."""

import os
import re
from pathlib import Path
from typing import Final

from torch import nn

from gemma_metamon.errors import ConfigError

MOST_PARAMETERS: Final = 100_000_000_000
_CONTAINER_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_CONTAINER_USE: Final = Path("/sys/fs/cgroup/memory.current")
_MEMORY_OF_LINUX: Final = Path("/proc/meminfo")
_AVAILABLE: Final = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


def require_size(agent: nn.Module) -> None:
    """Raise ConfigError for an agent beyond anything that this package is for; a slip of a config asks for such."""
    total = sum(parameter.numel() for parameter in agent.parameters())
    if total > MOST_PARAMETERS:
        raise ConfigError(
            f"this configuration builds an agent of {total:,} parameters ({_largest_part(agent)}); "
            f"at most {MOST_PARAMETERS:,} are built"
        )


def require_memory(agent: nn.Module) -> None:
    """Raise ConfigError where the weights alone are more than this machine has memory."""
    needed, there = _bytes_of(agent), memory_bytes()
    if there is not None and needed > there:
        raise ConfigError(
            f"the weights of this configuration's agent are {needed / 1e9:,.1f} GB ({_largest_part(agent)}), but this "
            f"machine has {there / 1e9:,.1f} GB of memory; make its layers fewer or narrower"
        )


def memory_bytes() -> int | None:
    """The memory of the machine, or of the container where that is less; None where it cannot be known."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None
    try:
        return min(there, int(_CONTAINER_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return there


def available_bytes() -> int | None:
    """The memory that a new process could take now without pushing others out; None where it cannot be known."""
    there = memory_bytes()
    try:
        found = _AVAILABLE.search(_MEMORY_OF_LINUX.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no Linux
        return there
    if found is None or there is None:
        return there
    available = min(there, 1024 * int(found[1]))
    try:
        return min(available, max(there - int(_CONTAINER_USE.read_text(encoding="ascii")), 0))
    except (OSError, ValueError):
        return available


def _bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _largest_part(agent: nn.Module) -> str:
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in agent.named_children()}
    name = max(sizes, key=lambda part: sizes[part])
    return f"most of them in its {name}, {sizes[name]:,}"
