"""The exact walk in plain torch, a slab of rows at a time: any device, any torch, no compiled code.

It is the fallback where no kernel can run. Memory is O(N (D + C)) plus one slab of the transition matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..products import exact_products
from ..reference import valid_pixels
from .settings import WalkSettings, cosine_scale

# Elements of a slab [rows, N]: 64 MiB in float32.
SLAB = 2**24


@exact_products
def walk(
    embeddings: Tensor,
    values: Tensor | None,
    mask: Tensor | None,
    settings: WalkSettings,
    *,
    adjoint: bool = False,
) -> Tensor:
    """Compute the walk of :func:`rwpm_fast.reference.walk` without holding S. Not differentiable: the operator is.

    Args:
        embeddings: [N, D] or [B, N, D], checked.
        values: [..., N, C]; the embeddings when None.
        mask: [..., N] bool, True = valid; all when None.
        settings: the tolerance is not used.
        adjoint: walk by the transpose of S.

    Returns:
        Walked values [..., N, C], contiguous, in the values' dtype; float16 and bfloat16 are computed in float32.
    """
    values = embeddings if values is None else values
    if embeddings.dim() == 3:
        result = values.new_empty(values.shape)
        for b in range(len(embeddings)):
            result[b] = _walk_image(embeddings[b], values[b], None if mask is None else mask[b], settings, adjoint)
        return result
    return _walk_image(embeddings, values, mask, settings, adjoint)


def _walk_image(
    embeddings: Tensor, values: Tensor, mask: Tensor | None, settings: WalkSettings, adjoint: bool
) -> Tensor:
    result = values.new_empty(values.shape).copy_(values)
    # A gradient that is not finite must stay visible: only values of a forward walk are checked.
    valid = valid_pixels(embeddings, None if adjoint else values, mask).nonzero().squeeze(-1)
    if settings.steps == 0 or len(valid) < 2 or values.shape[-1] == 0:
        return result
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, values.dtype), torch.float32)
    e = embeddings[valid].to(dtype)
    peak = e.abs().amax(-1, keepdim=True) if e.shape[-1] else e.new_zeros(len(e), 1)
    e = e / peak.where(peak > 0, 1)  # so that no square over- or underflows
    q = e / torch.linalg.vector_norm(e, dim=-1, keepdim=True).clamp_min(1e-12 / peak.clamp_min(1e-38))  # [n, D]

    rows = max(1, SLAB // len(q))
    blocks = [slice(begin, min(begin + rows, len(q))) for begin in range(0, len(q), rows)]
    scale = cosine_scale(settings.temperature)

    def cosines(block: slice) -> Tensor:
        c = q[block] @ q.T  # [rows, n]
        c[torch.arange(len(c)), torch.arange(block.start, block.stop)] = -torch.inf
        return c

    row_max, row_sum = q.new_empty(len(q), 1), q.new_empty(len(q), 1)
    for block in blocks:
        c = cosines(block)
        row_max[block] = c.amax(-1, keepdim=True)
        row_sum[block] = c.sub_(row_max[block]).mul_(scale).exp_().sum(-1, keepdim=True)

    start = values[valid].to(dtype)  # [n, C]
    m, product = start, torch.empty_like(start)
    for _ in range(settings.steps):
        if adjoint:  # S^T g = K (g / Z): the weights of row i are in column i
            shares = m / row_sum
            for block in blocks:
                # A product may give a pair two cosines that differ in the last bit: no weight exceeds the largest.
                product[block] = cosines(block).sub_(row_max.T).clamp_max_(0).mul_(scale).exp_() @ shares
        else:
            for block in blocks:
                weights = cosines(block).sub_(row_max[block]).mul_(scale).exp_().div_(row_sum[block])
                product[block] = weights @ m
        m = settings.alpha * product + (1 - settings.alpha) * start
    result[valid] = m.to(values.dtype)
    return result
