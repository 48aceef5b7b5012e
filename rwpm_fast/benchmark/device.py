"""Where contenders run: how time and memory are taken there, what it reaches, and how its float64 is made."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from ..memory import available_memory
from . import costs, machine
from .cases import Case
from .contender import Contender, Run
from .memory import peak_memory
from .reference import ON_CPU, ON_GPU

R = TypeVar("R")

# A run that is shorter is repeated up to so many times within so many seconds; its time is their median.
REPEATS, REPEAT_SECONDS = 20, 0.1
SIDE = 8192  # of the product that shows what matrix products reach
COPIED = 2**30  # bytes


class CpuDevice:
    """The processor, or a device that is timed as it is.

    Args:
        name: of the device, for torch.
    """

    is_cuda = False
    method = ON_CPU

    def __init__(self, name: str = "cpu") -> None:
        self.name = name

    def timed(self, run: Callable[[], R]) -> tuple[float, R]:
        """Seconds of a run, and its result."""
        start = time.perf_counter()
        result = run()
        return time.perf_counter() - start, result

    def peak_flops(self) -> float:
        """Floating-point operations a second that can be had."""
        return machine.peak_flops()

    def copy_bytes(self) -> float:
        """Bytes a second, read and written, of a large copy."""
        return machine.copy_bytes()

    def step_bytes(self, case: Case, pairs: int) -> float:
        """Bytes that one transition on a sparse matrix of so many pairs moves."""
        return costs.step_bytes_gathered(case, pairs)

    def free_memory(self) -> int:
        """Bytes that a run may take."""
        return available_memory() // 2

    def peak_memory(self, case: Case, contender: Contender, run: Run) -> int | None:
        """Bytes that a run takes at its peak beyond its inputs; None where that is not known."""
        return peak_memory(case, contender)

    def facts(self) -> dict[str, Any]:
        """The machine of a record."""
        return machine.facts()


class CudaDevice:
    """A GPU, as :class:`CpuDevice`: events for time, the allocator's count for memory.

    Args:
        name: of the device, for torch.
    """

    is_cuda = True
    method = ON_GPU

    def __init__(self, name: str = "cuda") -> None:
        self.device = torch.device(name)
        if self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.name = str(self.device)
        torch.cuda.set_device(self.device)  # events and graphs are of the current one
        self._scratch: Tensor | None = None

    def timed(self, run: Callable[[], R]) -> tuple[float, R]:
        """Seconds of a run, and its result; from an empty L2 cache, and the median of some where it is short."""
        times: list[float] = []
        while True:
            self._flush()
            seconds, result = self._events(run)
            times.append(seconds)
            if len(times) == REPEATS or sum(times) >= REPEAT_SECONDS:
                return median(times), result
            del result  # else the next run would find less memory

    def _flush(self) -> None:
        if self._scratch is None:
            self._scratch = torch.empty(2**28, dtype=torch.uint8, device=self.device)
        self._scratch.zero_()
        torch.cuda.synchronize(self.device)

    def _events(self, run: Callable[[], R]) -> tuple[float, R]:
        """Seconds between two events around a run, and its result."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = run()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end) / 1000, result

    def _mean(self, run: Run, count: int) -> float:
        """Seconds of a run among ``count`` that follow each other: what a device reaches without a pause."""

        def runs() -> Tensor:
            for _ in range(count - 1):
                run()
            return run()

        return self._events(runs)[0] / count

    def peak_flops(self) -> float:
        """What a float16 product of two matrices of SIDE reaches, on random numbers."""
        a, b = (torch.randn(SIDE, SIDE, device=self.device, dtype=torch.float16) for _ in range(2))
        for _ in range(3):
            a @ b
        return 2 * SIDE**3 / self._mean(lambda: a @ b, 10)

    def copy_bytes(self) -> float:
        source = torch.randint(256, (COPIED,), device=self.device, dtype=torch.uint8)
        target = torch.empty_like(source).copy_(source)
        return 2 * COPIED / self._mean(lambda: target.copy_(source), 10)

    def step_bytes(self, case: Case, pairs: int) -> float:
        return costs.step_bytes_least(case, pairs)

    def free_memory(self) -> int:
        torch.cuda.empty_cache()
        return int(0.9 * torch.cuda.mem_get_info(self.device)[0])

    def peak_memory(self, case: Case, contender: Contender, run: Run) -> int | None:
        """Above what is allocated before, the result included. A captured run holds its memory from the beginning:
        None."""
        if isinstance(run, Captured):
            return None
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        run()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before

    def facts(self) -> dict[str, Any]:
        """:func:`rwpm_fast.benchmark.machine.facts`, and under ``gpu`` the device's own."""
        return machine.facts() | {"gpu": gpu_facts(self.device)}


Device: TypeAlias = CpuDevice | CudaDevice


def open_device(name: str) -> Device:
    """The device of a name that torch knows."""
    return CudaDevice(name) if torch.device(name).type == "cuda" else CpuDevice(name)


class Captured:
    """A run as a CUDA graph: replayed, its launches cost next to nothing. The result is always the same tensor."""

    def __init__(self, run: Run) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()  # what is compiled or set up at first cannot be captured
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = run()

    def __call__(self) -> Tensor:
        self._graph.replay()
        return self._result


def gpu_facts(device: torch.device) -> dict[str, Any]:
    """Name, memory, driver and versions."""
    try:
        from triton import __version__ as triton
    except ImportError:
        triton = "not installed"
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "triton": triton,
    }


def _driver() -> str:
    file = Path("/proc/driver/nvidia/version")
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", file.read_text())
        if found:
            return found[0]
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"
