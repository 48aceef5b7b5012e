"""A way to walk that is timed: what it computes, what it takes, and how near to float64 it must come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..products import exact_products
from .cases import Case, Problem
from .reference import WALK

# Norm-wise relative error that an exact walk may have, by dtype; a tolerance adds its own.
EXACT = {"float32": 1e-5, "float16": 1e-3}

Run: TypeAlias = Callable[[], Tensor]
Cost: TypeAlias = Callable[[Case], float]


class Unavailable(Exception):
    """A contender cannot run here; the message says why."""


class Facts(NamedTuple):
    """What a run does, in addition to its result.

    Attributes:
        pairs: pairs of pixels that every transition reads; None where that is not known.
        path: see :class:`rwpm_fast.ops.info.WalkInfo`; None where there is but one.
        dropped: largest share of its mass that a row drops, which must keep to the contender's tolerance; None where
            that is not known.
        note: what a reader of its row must know of it here; None for nothing.
    """

    pairs: int | None = None
    path: str | None = None
    dropped: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Contender:
    """One way to walk. All of it can be pickled, since its memory is measured in a process of its own.

    Args:
        key: how the command line calls it.
        label: how tables call it.
        make: gets a problem and makes what is run and timed: values [B, P, C] of the sub-maps, or the map
            [1, C, H, W]. Outside the time it imports, compiles, and lays out what depends on sizes alone. Raises
            :class:`Unavailable` where it cannot run. It is called by :meth:`prepare`.
        work: floating-point operations of a run, by which the time of a small run is scaled; see
            :mod:`rwpm_fast.benchmark.costs`.
        memory: bytes that a run takes beyond its inputs, estimated.
        operator: what it computes, a name of :mod:`rwpm_fast.benchmark.reference`.
        tolerance: mass that a row may drop by its contract.
        exact: does all of ``work`` by multiply-adds, so that its share of the peak says something.
        facts: what a run does, for its row; with pairs in it, a run of one transition is timed too. None where there
            is nothing to say.
        bound: norm-wise relative error that it may have; None for what its dtype and tolerance allow.
        slack: factor on what the dtype allows, for contenders that are less careful than they could be.
        expected_error: norm-wise relative error that it is expected to stay below, for one that trades accuracy for
            speed and has no bound: it is timed up to there, and called matched only within what its dtype allows.
            None for the others.
        opt_in: runs only where the user names it.
        predict: seconds that a run is expected to take, at least and at most; None where there is no model.
    """

    key: str
    label: str
    make: Callable[[Problem], Run]
    work: Cost
    memory: Cost
    operator: str = WALK
    tolerance: float = 0.0
    exact: bool = True
    facts: Callable[[Problem], Facts] | None = None
    bound: float | None = None
    slack: float = 1.0
    expected_error: float | None = None
    opt_in: bool = False
    predict: Callable[[Case], tuple[float, float]] | None = None

    def prepare(self, problem: Problem) -> Run:
        """Make what is run and timed, as ``make``. On the CPU it multiplies float32 matrices in float32, whatever
        precision the process allows, but where it sets another by itself.

        Raises:
            Unavailable: it cannot run here.
        """
        if torch.device(problem.case.device).type != "cpu":
            return self.make(problem)
        return exact_products(exact_products(self.make)(problem))

    def error_bound(self, case: Case) -> float:
        """Norm-wise relative error that its contract allows on a case."""
        if self.bound is not None:
            return self.bound
        return self.slack * EXACT[case.dtype] + 2 * case.steps * self.tolerance

    def largest_error(self, case: Case) -> float:
        """Norm-wise relative error above which it gets no time on a case."""
        return self.error_bound(case) if self.expected_error is None else self.expected_error


def chosen(contenders: list[Contender], patterns: list[str] | None) -> list[Contender]:
    """The contenders whose keys match one of the patterns; without patterns all that need not be named.

    Raises:
        ValueError: a pattern that matches none.
    """
    if patterns is None:
        return [c for c in contenders if not c.opt_in]
    for pattern in patterns:
        if not any(fnmatchcase(c.key, pattern) for c in contenders):
            keys = ", ".join(c.key for c in contenders)
            raise ValueError(f"contenders: expected patterns of {keys}, got {pattern!r}")
    return [c for c in contenders if any(fnmatchcase(c.key, pattern) for pattern in patterns)]
