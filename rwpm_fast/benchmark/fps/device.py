"""A torch device as a stage: events for time, the allocator's count for memory, and the machine of a record."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from .. import machine
from ..contender import Contender, Run
from ..stage import Host
from .frames import Frame
from .truth import Truth, truth

# A run that is shorter is repeated up to so many times within so many seconds; its time is their median.
REPEATS, REPEAT_SECONDS = 20, 0.1
SIDE = 8192  # of the product that tells what matrix products reach
COPIED = 2**30  # bytes


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


class Device(Host):
    """A torch device; the processor is timed as :class:`Host` does.

    Args:
        name: of the device, for torch.
    """

    unit = "dense-released"

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        if self.is_cuda:
            if self.device.index is None:
                self.device = torch.device("cuda", torch.cuda.current_device())
            torch.cuda.set_device(self.device)  # events and graphs are of the current one
        self._scratch: Tensor | None = None

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def timed(self, run: Run) -> tuple[float, Tensor]:
        """Seconds of a run and its result; on a GPU from an empty L2 cache, and repeated where it is short."""
        if not self.is_cuda:
            return super().timed(run)
        times: list[float] = []
        while not times or (len(times) < REPEATS and sum(times) < REPEAT_SECONDS):
            result = None  # else the next run would find less memory
            self._flush()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(self.device)
            start.record()
            result = run()
            end.record()
            torch.cuda.synchronize(self.device)
            times.append(start.elapsed_time(end) / 1000)
        return median(times), result

    def _flush(self) -> None:
        if self._scratch is None:
            self._scratch = torch.empty(2**28, dtype=torch.uint8, device=self.device)
        self._scratch.zero_()

    def peak_flops(self) -> float:
        """What a float16 product of two matrices of SIDE reaches, on random numbers; the processor's own peak."""
        if not self.is_cuda:
            return super().peak_flops()
        a, b = (torch.randn(SIDE, SIDE, device=self.device, dtype=torch.float16) for _ in range(2))
        for _ in range(3):
            a @ b
        return 2 * SIDE**3 / self._mean(lambda: a @ b, 10)

    def copy_bytes(self) -> float:
        if not self.is_cuda:
            return super().copy_bytes()
        source = torch.randint(256, (COPIED,), device=self.device, dtype=torch.uint8)
        target = torch.empty_like(source).copy_(source)
        return 2 * COPIED / self._mean(lambda: target.copy_(source), 10)

    def _mean(self, run: Run, count: int) -> float:
        """Seconds of a run among ``count`` that follow each other: what a device reaches without a pause."""

        def runs() -> None:
            for _ in range(count):
                run()

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        runs()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end) / 1000 / count

    def step_bytes(self, case: Frame, pairs: int) -> float:
        """The fewest bytes that a transition on a sparse matrix moves: its weights, and the state read, begun from and
        written."""
        size = 2 if case.dtype == "float16" else 4
        return size * (pairs + 3 * case.pixels * case.value_channels)

    def free_memory(self) -> int:
        """Bytes that a run may take."""
        if not self.is_cuda:
            return machine.free_memory() // 2
        torch.cuda.empty_cache()
        return int(0.9 * torch.cuda.mem_get_info(self.device)[0])

    def peak_memory(self, case: Frame, contender: Contender, run: Run) -> int | None:
        """As :class:`Host` tells; on a GPU above what is allocated before, the result included. A captured run holds
        its memory from the beginning: None."""
        if not self.is_cuda:
            return super().peak_memory(case, contender, run)
        if isinstance(run, Captured):
            return None
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        run()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before

    def expected(self, problem, operator: str, **settings) -> Truth:
        return truth(problem, operator, **settings)

    def facts(self) -> dict[str, Any]:
        """The machine of a record: :func:`rwpm_fast.benchmark.machine.facts`, and under ``gpu`` the device's own."""
        return machine.facts() | ({"gpu": gpu_facts(self.device)} if self.is_cuda else {})


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
