"""Where contenders run: how time and memory are taken there, what it reaches, and who tells what is right."""

from __future__ import annotations

import time

from torch import Tensor

from . import machine
from .cases import Case
from .contender import Contender, Run
from .memory import peak_memory
from .reference import Expected, expected


class Host:
    """The processor."""

    unit = "dense"  # whose time is one

    def timed(self, run: Run) -> tuple[float, Tensor]:
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
        """Bytes that one transition on a sparse matrix of so many pairs moves: float32 values that it gathers."""
        return 4 * pairs * case.value_channels

    def peak_memory(self, case: Case, contender: Contender, run: Run) -> int | None:
        """Bytes that a run takes at its peak beyond its inputs; None where that is not known."""
        return peak_memory(case, contender)

    def expected(self, problem, operator: str, **settings) -> Expected:
        """What an operator of :mod:`rwpm_fast.benchmark.reference` gives in float64."""
        return expected(problem, operator, **settings)
