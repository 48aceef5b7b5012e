"""What a walk of a case takes, by how it is done: floating-point operations, and bytes beyond its inputs.

A multiply-add is two operations; only products are counted, no exponentials. The operations are those that are done,
without the padding of tiles and blocks, so that a share of a peak may come out too small and never too large. Bytes are
estimates, by which :class:`rwpm_fast.benchmark.runner.Limits` leaves out what would not fit.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .. import baselines
from ..ops import estimate
from ..ops.estimate import MAX_KEPT_COSINES, estimate_walk, exact_flops
from .cases import Case
from .reference import NEIGHBORS


def flops_dense(case: Case) -> float:
    """Where the matrix is made once and kept: ``2 P^2 (D + C T)`` a sub-map of P pixels."""
    return 2 * case.pairs * (case.channels + case.value_channels * case.steps)


def flops_released(case: Case) -> float:
    """The same of T + 1 transitions."""
    return 2 * case.pairs * (case.channels + case.value_channels * (case.steps + 1))


def flops_streamed(case: Case) -> float:
    """Where every transition makes all weights: ``2 P^2 (D + C) T`` a sub-map of P pixels."""
    return 2 * case.pairs * (case.channels + case.value_channels) * case.steps


def flops_exact_tiled(case: Case) -> float:
    """Our exact walk by Triton, CUDA C++ or plain torch: a pass for the rows' sums, ``2 P^2 D`` a sub-map, and then
    every transition makes all weights."""
    return flops_streamed(case) + (2 * case.pairs * case.channels if case.steps else 0)


def flops_exact_cpu(case: Case, max_kept: int = MAX_KEPT_COSINES) -> float:
    """Our exact walk on the CPU; see :func:`rwpm_fast.ops.estimate.exact_flops`."""
    return case.parts**2 * exact_flops(case.part_pixels, case.channels, case.value_channels, case.steps, max_kept)


def flops_pairs(case: Case) -> float:
    """One pass over all pairs, each once for both its pixels."""
    return case.pairs * case.channels


def bytes_states(case: Case) -> float:
    """Packed embeddings and some states, in 32 bits."""
    return estimate.state_bytes(*_sizes(case))


def bytes_exact_cpu(case: Case) -> float:
    """The same and the cosines that our exact walk on the CPU keeps."""
    return estimate.exact_bytes(*_sizes(case), case.pairs)


def bytes_slab(case: Case) -> float:
    """States, and slabs of the matrix: cosines, weights, and those in 16 bits."""
    return 12 * min(baselines.SLAB, case.part_pixels**2) + bytes_states(case)


def bytes_matrix(case: Case) -> float:
    """The same, and the matrix of every sub-map."""
    return _size(case) * case.pairs + bytes_slab(case)


def bytes_matrix_bfloat16(case: Case) -> float:
    """The matrix of one sub-map in bfloat16, and the slabs that it is made of."""
    return 2 * case.part_pixels**2 + bytes_slab(case)


def bytes_released(case: Case) -> float:
    """Cosines, matrix and the matrix times alpha of one sub-map, in float32, and states."""
    return 3 * 4 * case.part_pixels**2 + bytes_states(case)


def bytes_knn(case: Case) -> float:
    """The neighbors of every pixel with what found them."""
    return 2 * 12 * case.pixels * NEIGHBORS + bytes_slab(case)


def seconds_ours(case: Case, tolerance: float) -> tuple[float, float]:
    """Seconds that our walk is expected to take, at least and at most; see
    :func:`rwpm_fast.ops.estimate.estimate_walk`."""
    settings = replace(case.settings, tolerance=tolerance)
    size = case.height, case.width
    least, most = estimate_walk(size, case.channels, case.value_channels, settings, torch.device(case.device))
    return least.seconds, most.seconds


def bytes_sparse(case: Case) -> float:
    """Our walk with a tolerance at most: what would need more than 1 GiB of weights streams."""
    return estimate.sparse_bytes(*_sizes(case), case.pairs / 2)  # a denser graph streams


def step_bytes_gathered(case: Case, pairs: int) -> float:
    """Bytes that a transition on a sparse matrix of so many pairs gathers on the CPU: a float32 value of every channel
    for every pair."""
    return 4 * pairs * case.value_channels


def step_bytes_least(case: Case, pairs: int) -> float:
    """The fewest bytes that a transition on a sparse matrix moves: its weights, and the state read, begun from and
    written."""
    return _size(case) * (pairs + 3 * case.pixels * case.value_channels)


def _sizes(case: Case) -> tuple[int, int, int]:
    return case.pixels, case.channels, case.value_channels


def _size(case: Case) -> int:
    return 2 if case.dtype == "float16" else 4
