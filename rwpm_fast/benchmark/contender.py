"""What is compared: this package's walk, and dense and chunked torch. Peers that need more are in the folder bench/."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor

import rwpm_fast

from .. import baselines, native
from ..ops import library
from ..ops.functional import walk
from .cases import Case, Problem
from .reference import WALK

# Norm-wise relative error that an exact float32 walk may have; a tolerance adds its own.
BOUND = 1e-5

Run = Callable[[], Tensor]


class Unavailable(Exception):
    """A contender cannot run here; the message says why."""


def once(case: Case) -> float:
    """Floating-point operations where the matrix is made once and kept."""
    return 2 * case.pixels**2 * (case.channels + case.value_channels * case.steps)


def streamed(case: Case) -> float:
    """Floating-point operations where every step makes the weights anew."""
    return 2 * case.pixels**2 * (case.channels + case.value_channels) * case.steps


def paired(case: Case) -> float:
    """Floating-point operations of one look at all pairs."""
    return 2 * case.pixels**2 * case.channels


def slab(case: Case) -> float:
    """Bytes of the slabs of the matrix that a baseline works on: cosines and weights."""
    return 8 * min(baselines.SLAB, case.pixels**2)


def matrix(case: Case) -> float:
    """Bytes of the transition matrix and a slab to make it."""
    return 4 * case.pixels**2 + slab(case)


def streaming(case: Case) -> float:
    """Bytes of our exact walk."""
    return 4 * case.pixels * (case.channels + 3 * case.value_channels)


def sparse(case: Case) -> float:
    """Bytes of our walk with a tolerance at most: what would need a larger matrix streams."""
    return min(2**30, matrix(case)) + streaming(case)


@dataclass(frozen=True)
class Contender:
    """One way to walk. All of it can be pickled, since its memory is measured in a process of its own.

    Args:
        key: how the command line calls it.
        label: how tables call it.
        prepare: gets a problem and makes what is run and timed; outside the time it imports, compiles, and lays out
            what depends on sizes alone. Raises :class:`Unavailable` where it cannot run.
        work: floating-point operations of a run, to scale a small run's time by.
        memory: bytes that a run takes beyond its inputs, estimated.
        operator: what it computes, a name of :mod:`rwpm_fast.benchmark.reference`.
        tolerance: mass that a row may drop by its contract.
        exact: does all of ``work`` in float32, so that its share of the peak says something.
        pairs: pairs of pixels that every step reads, for walks on a sparse matrix; None where that is not known.
        asked: runs only where the user names it.
        facts: what a run does, for its row: ``pairs`` in the place of the above, and ``dropped``, the largest mass that
            a row dropped, which must keep to ``tolerance``.
    """

    key: str
    label: str
    prepare: Callable[[Problem], Run]
    work: Callable[[Case], float]
    memory: Callable[[Case], float]
    operator: str = WALK
    tolerance: float = 0.0
    exact: bool = True
    pairs: Callable[[Problem], int | None] | None = None
    asked: bool = False
    facts: Callable[[Problem], dict[str, Any]] | None = None

    def bound(self, case: Case) -> float:
        """Norm-wise relative error that its contract allows."""
        return BOUND + 2 * case.steps * self.tolerance


@contextmanager
def forced_isa(isa: str | None) -> Iterator[None]:
    """Have the compiled kernels use an instruction set; None leaves the choice to them."""
    before = os.environ.get("RWPM_ISA")
    if isa is not None:
        os.environ["RWPM_ISA"] = isa
    try:
        yield
    finally:
        if isa is not None:
            os.environ.pop("RWPM_ISA")
            if before is not None:
                os.environ["RWPM_ISA"] = before


def _ours(problem: Problem, isa: str | None, tolerance: float) -> Run:
    def run() -> Tensor:
        with forced_isa(isa):
            return walk(problem.embeddings, problem.values, **problem.settings, tolerance=tolerance)

    return run


def _torch(problem: Problem, walk: Callable[..., Tensor]) -> Run:
    return lambda: walk(problem.embeddings, problem.values, **problem.settings)


def baseline(key: str, label: str, walk: Callable[..., Tensor], **facts) -> Contender:
    """A contender that is a function of :mod:`rwpm_fast.baselines`, its settings bound by ``functools.partial``."""
    return Contender(key, label, partial(_torch, walk=walk), **facts)


def isas() -> list[str | None]:
    """Instruction sets that can be forced here, best first; [None] where the compiled kernels cannot serve."""
    if native.unsupported_reason() is not None or library.unsupported_reason() is not None:
        return [None]
    return native.native().build()["isa_available"]


def chosen_isa() -> str | None:
    """The instruction set that the compiled kernels use here unless forced; None where they cannot serve."""
    return None if isas() == [None] else native.native().chosen_isa()


def ours(isa: str | None, tolerance: float = 0.0) -> Contender:
    """This package's walk with an instruction set, exact or with a tolerance."""
    kind = f"tolerance {tolerance:g}" if tolerance else "exact"
    return Contender(
        f"{kind.replace(' ', '-')}-{isa or 'torch'}",
        f"rwpm_fast, {kind}, {isa or 'plain torch'}",
        partial(_ours, isa=isa, tolerance=tolerance),
        work=paired if tolerance else streamed,
        memory=sparse if tolerance and isa else streaming,
        tolerance=tolerance,
        exact=not tolerance,
        pairs=partial(kept_pairs, tolerance=tolerance) if tolerance and isa else None,
    )


def graph(problem: Problem, tolerance: float):
    """What our walk with a tolerance compiles, as ``rwpm_fast.transition`` gives it.

    Raises:
        Unavailable: this version gives it to nobody.
    """
    if not hasattr(rwpm_fast, "transition"):
        raise Unavailable("this version gives no transition matrix to others")
    return rwpm_fast.transition(problem.embeddings, temperature=problem.case.temperature, tolerance=tolerance)


def kept_pairs(problem: Problem, tolerance: float) -> int | None:
    """Pairs that our walk with a tolerance keeps; None where it streams, or does not tell."""
    try:
        compiled = graph(problem, tolerance)
    except Unavailable:
        return None
    return int(compiled.kept_per_row.sum()) if compiled.path == "sparse" else None


def torch_walks() -> list[Contender]:
    """What torch alone gives: the matrix once, or a slab of it at a time."""
    flushed = partial(baselines.dense_walk, flush=True)
    return [
        baseline("dense", "dense torch, subnormals flushed", flushed, work=once, memory=matrix),
        baseline("dense-unflushed", "dense torch", baselines.dense_walk, work=once, memory=matrix, asked=True),
        baseline("chunked", "chunked torch", baselines.chunked_walk, work=streamed, memory=slab),
    ]


def chosen(contenders: list[Contender], patterns: list[str] | None) -> list[Contender]:
    """The contenders whose keys match one of the patterns; without patterns all that need not be asked for.

    Raises:
        ValueError: a pattern that matches none.
    """
    if patterns is None:
        return [c for c in contenders if not c.asked]
    for pattern in patterns:
        if not any(fnmatchcase(c.key, pattern) for c in contenders):
            keys = ", ".join(c.key for c in contenders)
            raise ValueError(f"contenders: expected patterns of {keys}, got {pattern!r}")
    return [c for c in contenders if any(fnmatchcase(c.key, pattern) for pattern in patterns)]
