"""The exact walk in plain torch, a slab of rows at a time: any device, any torch, no compiled code.

What serves where there is no kernel of our own. O(N (D + C)) memory beside one slab of the transition matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference import valid_pixels
from .settings import WalkSettings

# Elements of a slab [rows, N]: 64 MiB in float32.
SLAB = 2**24

# Factors on the cosines beyond which nothing changes, and float32 products would overflow or meet infinity with zero.
STEEPEST, FLATTEST = 1e30, 1e-30


def walk(
    embeddings: Tensor,
    values: Tensor | None,
    mask: Tensor | None,
    settings: WalkSettings,
    *,
    adjoint: bool = False,
) -> Tensor:
    """The walk of :func:`rwpm_fast.reference.walk`, streamed; with ``adjoint``, by the transpose of S.

    Args and result as there; float16 and bfloat16 are computed in float32; the tolerance is not used. Inputs are taken
    as checked. Not differentiable: the operator around it is.
    """
    values = embeddings if values is None else values
    if embeddings.dim() == 3:
        result = values.new_empty(values.shape)
        for b in range(len(embeddings)):
            result[b] = walk(embeddings[b], values[b], None if mask is None else mask[b], settings, adjoint=adjoint)
        return result

    result = values.new_empty(values.shape).copy_(values)
    # A gradient that is not finite must show: only values of a forward walk are looked at.
    valid = valid_pixels(embeddings, None if adjoint else values, mask).nonzero().squeeze(-1)
    if settings.steps == 0 or len(valid) < 2 or values.shape[-1] == 0:
        return result
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, values.dtype), torch.float32)
    e = embeddings[valid].to(dtype)
    largest = e.abs().amax(-1, keepdim=True) if e.shape[-1] else e.new_zeros(len(e), 1)
    e = e / largest.where(largest > 0, 1)  # so that no square over- or underflows
    q = e / torch.linalg.vector_norm(e, dim=-1, keepdim=True).clamp_min(1e-12 / largest.clamp_min(1e-38))  # [n, D]

    rows = max(1, SLAB // len(q))
    blocks = [slice(begin, min(begin + rows, len(q))) for begin in range(0, len(q), rows)]
    scale = min(max(1 / settings.temperature, FLATTEST), STEEPEST)

    def cosines(block: slice) -> Tensor:
        c = q[block] @ q.T  # [rows, n]
        c[torch.arange(len(c)), torch.arange(block.start, block.stop)] = -torch.inf
        return c

    maximum, total = q.new_empty(len(q), 1), q.new_empty(len(q), 1)
    for block in blocks:
        c = cosines(block)
        maximum[block] = c.amax(-1, keepdim=True)
        total[block] = c.sub_(maximum[block]).mul_(scale).exp_().sum(-1, keepdim=True)

    start = values[valid].to(dtype)  # [n, C]
    m, following = start, torch.empty_like(start)
    for _ in range(settings.steps):
        if adjoint:  # S^T g = K (g / Z): the weights of row i stand in column i
            shares = m / total
            for block in blocks:
                # A product may give a pair two cosines that differ in the last bit: no weight exceeds the largest.
                following[block] = cosines(block).sub_(maximum.T).clamp_max_(0).mul_(scale).exp_() @ shares
        else:
            for block in blocks:
                weights = cosines(block).sub_(maximum[block]).mul_(scale).exp_().div_(total[block])
                following[block] = weights @ m
        m, following = settings.alpha * following + (1 - settings.alpha) * start, following
    result[valid] = m.to(values.dtype)
    return result
