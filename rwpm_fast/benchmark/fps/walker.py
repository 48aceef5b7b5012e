"""A contender of the FPS benchmark, and how near to float64 it must come."""

from __future__ import annotations

from dataclasses import dataclass

from ..contender import Contender
from .frames import Frame

# Norm-wise relative error: of an exact walk by dtype, and of a tolerance, whatever its certificate allows. Others are
# held to ten times that of an exact walk, and nearest neighbors, of which rounding picks some, to the last.
EXACT = {"float32": 1e-5, "float16": 1e-3}
TOLERANT = 1e-3
PEERS = 10.0
NEIGHBORS_BOUND = 1e-2


@dataclass(frozen=True)
class Walker(Contender):
    """A contender of a frame.

    Args:
        share: of the bound of an exact walk in the frame's dtype, what it is held to; ``most`` in its place if given.
    """

    share: float = 1.0
    most: float | None = None

    def bound(self, case: Frame) -> float:
        return self.share * EXACT[case.dtype] if self.most is None else self.most
