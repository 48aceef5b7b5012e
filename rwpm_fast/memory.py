"""Memory: how much of it this process may still take, and whether an error means that there was none."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

_UNKNOWN = 4 * 2**30  # where the system does not tell
_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # of version 2 and 1
_RECLAIMABLE = re.compile(r"^(?:total_)?inactive_file (\d+)$", re.MULTILINE)

# Allocators that raise a RuntimeError or OSError: torch's, those of GPUs, oneDNN's (no room for the code of a
# convolution), and C++ behind torch's stable ABI. That one keeps no reason, and our operators call it after all checks,
# so that only memory can be missing.
_TEXTS = re.compile(
    r"out of memory|(?:not enough|insufficient) memory|(?:can't|cannot|could not|unable to) allocate|bad_alloc|"
    r"ALLOC_FAILED|could not create a primitive$|(?:torch_parallel_for|torch_call_dispatcher)\(.* API call failed",
    re.IGNORECASE | re.DOTALL,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or the cause that it was raised from, says that memory could not be had.

    Python, NumPy and Pillow raise MemoryError; torch a RuntimeError for the CPU and OutOfMemoryError for a GPU; the
    system an OSError.

    Args:
        error: any error.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, (RuntimeError, OSError)) and _TEXTS.search(str(cause)):
            return True
        cause = cause.__cause__
    return False


def available_memory() -> int:
    """Return the bytes that this process may still take without swapping, 4 GiB where the system does not tell.

    The least of what the system has, what is left of the limits of its control groups (containers, job managers), and
    what is left of its address space (``ulimit -v``).
    """
    return max(0, min([*_system(), *_control_groups(), *_address_space()], default=_UNKNOWN))


def _system() -> Iterator[int]:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(_PROC / "meminfo"), re.MULTILINE)
    if found:
        yield 1024 * int(found[1])


def _control_groups() -> Iterator[int]:
    """Yield what is left of the limits of this process's control group and those around it."""
    for line in _text(_PROC / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        root = _CGROUPS / "memory" if "memory" in controllers.split(",") else _CGROUPS
        group = root / path.strip("/")
        for folder in [group, *group.parents]:
            for limit, usage in _LIMITS:
                most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
                if most.isdigit() and used.isdigit():
                    files = _RECLAIMABLE.search(_text(folder / "memory.stat"))
                    yield int(most) - int(used) + (int(files[1]) if files else 0)
            if folder == root:
                break


def _address_space() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # another system than POSIX
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(_PROC / "self/statm").split()
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _text(path: Path) -> str:
    """Read a file of the system; empty where there is none."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
