"""Peak memory of a contender, in a fresh process so that nothing else has touched it."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from .cases import Case
from .contender import Contender

STATUS = Path("/proc/self/status")


def peak_memory(case: Case, contender: Contender) -> int | None:
    """Bytes that a run takes at its peak beyond its inputs, its result included.

    What a library needs to be loaded at all is not counted: a small problem runs before. What a compiler in the
    process takes for this size is counted.

    Returns:
        Bytes; None where the system does not tell (it needs Linux's /proc).

    Raises:
        MemoryError: the process was killed.
    """
    # Not forked: a child would inherit this process's peak and the state of its thread pools.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, case, contender, torch.get_num_threads()).result()
        except BrokenProcessPool as error:
            raise MemoryError("the process that measured its memory was killed") from error


def _measure(case: Case, contender: Contender, threads: int) -> int | None:
    torch.set_num_threads(threads)
    contender.prepare(case.small().problem())()
    problem = case.problem()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else freed memory that the heap keeps would hide what a run takes of it
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins again at what is resident
        before = resident("VmRSS")
    except (OSError, AttributeError):
        return None
    contender.prepare(problem)()
    return max(0, resident("VmHWM") - before)


def resident(field: str) -> int:
    """Bytes that the system tells of this process in ``/proc/self/status``, such as ``VmHWM``: most that it held.

    Raises:
        OSError: there is no such file.
    """
    return 1024 * int(re.findall(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[0])
