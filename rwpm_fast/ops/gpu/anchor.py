"""The anchored walk on a GPU: sums of the rows, and the transpose of its transitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .exact import RowSums
from .kernels.exact import WEIGHT_SHIFT
from .kernels.tiles import BLOCK
from .pack import HalfPair, PackedGraph
from .sparse import Pairs


def log_sums(sums: RowSums | None, pairs: Pairs | None) -> Tensor:
    """Logarithm of the sum of exp(cosine / temperature) of every row, [B, padded]; inf where there is none.

    Args:
        sums: of the rows that stream; None: no row does.
        pairs: kept pairs of the others; None: every row streams.
    """
    log2_sum = torch.empty(0) if sums is None else sums.row_max - sums.inv_row_sum.log2()
    if pairs is not None:
        listed = pairs.log_unit - pairs.weight_factor.log2() - WEIGHT_SHIFT.value
        streams = pairs.streaming_blocks.repeat_interleave(BLOCK, 1) != 0
        log2_sum = listed if sums is None else torch.where(streams, log2_sum, listed)
    return log2_sum * math.log(2)


def take_transposed_steps(
    graph: PackedGraph,
    start: HalfPair,
    alpha: Tensor,
    steps: int,
    *,
    sums: RowSums,
    exact_step: Callable[..., None],
) -> Tensor:
    """Walk a packed gradient by the transpose of anchored transitions; see :func:`rwpm_fast.ops.anchor.iterate`.

    Args:
        graph: packed embeddings.
        start: [B, padded, C].
        alpha: [B, padded], in [0, 1].
        steps: number of transitions, >= 0.
        sums: of all rows.
        exact_step: see :func:`rwpm_fast.ops.gpu.walk.walk_batch`.

    Returns:
        [B, padded, C] float32.
    """
    scaled = sums._replace(inv_row_sum=sums.inv_row_sum * alpha)
    state, ones = start, torch.ones_like(alpha)
    total = torch.zeros_like(start.high, dtype=torch.float32)
    for _ in range(steps):
        total += state.to_float()
        target = HalfPair.empty(*start.high.shape, has_low=start.has_low, device=start.high.device)
        exact_step(graph, scaled, None, start, state, target, ones, True)
        state = target
    return state.to_float() + (1 - alpha)[..., None] * total
