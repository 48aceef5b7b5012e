"""The anchored walk in torch: the weight of every pixel's own value, and the transitions that it changes.

A row of the walk's matrix has the pixel itself as one more neighbor, at a fixed cosine s0. That is the walk with a
continuing probability of its own in every row, ``alpha_i = alpha (1 - r_i)``; see :func:`rwpm_fast.reference.walk`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .settings import cosine_scale, is_anchored


def own_weights(log_sum: Tensor, *, temperature: float, anchor: float, anchor_share: float) -> Tensor | None:
    """Compute the weight r of every pixel's own value from the sums of its row.

    Args:
        log_sum: [..., n] logarithm of the sum of exp(cosine / temperature) over the other pixels; inf for a row that is
            no part of the graph.
        temperature: softmax temperature tau > 0.
        anchor: cosine s0 of a pixel with its own value; -1 or lower: no anchor.
        anchor_share: share of the pixels that s0 is chosen to anchor, in [0, 1]; 0: s0 is ``anchor``.

    Returns:
        r: [..., n], in [0, 1], 0 where ``log_sum`` is inf; None without an anchor.
    """
    if not is_anchored(anchor, anchor_share):
        return None
    if anchor_share > 0:
        count = (log_sum < math.inf).sum(-1, keepdim=True)
        rank = (anchor_share * count.double()).ceil().long() - 1
        logit = log_sum.sort(-1).values.gather(-1, rank.clamp_min(0))
    else:
        logit = log_sum.new_full((), anchor * cosine_scale(temperature))  # new_tensor would copy from the host
    return torch.where(log_sum < math.inf, torch.sigmoid(logit - log_sum), 0)


def iterate(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    alpha: float,
    steps: int,
    own_weight: Tensor | None,
    adjoint: bool = False,
) -> Tensor:
    """Iterate a walk: ``m <- alpha_i S m + (1 - alpha_i) v``, or its transpose.

    With B = S^T diag(alpha_i) the transpose of T transitions is ``B^T g + diag(1 - alpha_i) (g + B g + ... + B^(T-1)
    g)``; without an anchor alpha_i is one number, and the form of the walk itself does.

    Args:
        product: multiplies [n, C] by S, or by its transpose in the adjoint.
        start: values or gradient, [n, C].
        alpha: continuing probability, in [0, 1].
        steps: number of transitions.
        own_weight: r, [n]; None without an anchor.
        adjoint: transpose.

    Returns:
        [n, C].
    """
    m = start
    if own_weight is None:
        for _ in range(steps):
            m = alpha * product(m) + (1 - alpha) * start
        return m
    proceed = (alpha * (1 - own_weight.double()))[:, None]
    proceed, restart = proceed.to(start.dtype), (1 - proceed).to(start.dtype)
    if not adjoint:
        for _ in range(steps):
            m = proceed * product(m) + restart * start
        return m
    total = torch.zeros_like(start)
    for _ in range(steps):
        total += m
        m = product(proceed * m)
    return m + restart * total
