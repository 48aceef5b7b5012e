"""What a walk of a frame takes, by how it is done: floating-point operations, and bytes beyond input and output."""

from __future__ import annotations

from ... import baselines
from ..reference import NEIGHBORS
from .frames import Frame


def _size(case: Frame) -> int:
    return 2 if case.dtype == "float16" else 4


def once(case: Frame) -> float:
    """Floating-point operations where the matrix is made once and kept."""
    return 2 * case.pairs * (case.channels + case.value_channels * case.steps)


def released_work(case: Frame) -> float:
    """The same of T + 1 transitions."""
    return 2 * case.pairs * (case.channels + case.value_channels * (case.steps + 1))


def streamed(case: Frame) -> float:
    """Floating-point operations where every step makes the weights anew."""
    return 2 * case.pairs * (case.channels + case.value_channels) * case.steps


def paired(case: Frame) -> float:
    """Floating-point operations of one look at all pairs, each once for both its pixels."""
    return case.pairs * case.channels


def states(case: Frame) -> float:
    """Bytes of packed embeddings and some states, in 32 bits."""
    return 4 * case.pixels * (case.channels + 4 * case.value_channels)


def slab(case: Frame) -> float:
    """The same, and slabs of the matrix: cosines, weights, and those in 16 bits."""
    return 12 * min(baselines.SLAB, case.pairs) + states(case)


def matrix(case: Frame) -> float:
    """The same, and the matrix of every sub-map."""
    return _size(case) * case.pairs + slab(case)


def released_matrices(case: Frame) -> float:
    """Cosines, matrix and the matrix times alpha of one sub-map, in float32."""
    return 3 * 4 * case.part_pixels**2 + states(case)


def listed(case: Frame) -> float:
    """Bytes of the neighbors of every pixel with what found them."""
    return 2 * 12 * case.pixels * NEIGHBORS + slab(case)


def sparse(case: Frame) -> float:
    """Bytes that our walk with a tolerance should have: for weights it takes what room there is."""
    return 2**30 + states(case)
