"""How much memory a process has had at most, a bound for it, and what says that memory did not do. For fuzz_readers.py.

On Linux; elsewhere nothing is bounded and nothing known.
"""

import sys
from pathlib import Path


def peak_kib() -> float:
    """Of this process: the most memory that was resident at a time; 0 where that cannot be known."""
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def bound_memory(more_mib: int) -> float:
    """From now on this process gets no more memory than it has, and so much; returns what `peak_kib` may then be.

    RLIMIT_DATA counts what is private and can be written. RLIMIT_AS would count what torch and its threads reserve and
    never use, too: gigabytes.
    """
    if sys.platform != "linux":
        return float("inf")
    import resource

    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
    most = (int(held.split()[1]) + 1024 * more_mib) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    return peak_kib() + 1024 * more_mib


def wants_memory(error: BaseException | None) -> bool:
    """Whether it, or an error that it came of, is of memory that did not do. torch and C++ have no class for that."""
    while error is not None:
        said = str(error)
        if isinstance(error, MemoryError) or "allocate memory" in said or "bad_alloc" in said:
            return True
        error = error.__cause__ or error.__context__
    return False
