"""The definition of the walk, dense and plain: what every backend is tested against.

Random Walk on Pixel Manifolds (Zeng & Tomite, ECCV 2024), equation S.5 with a softmax graph whose self-affinity is
removed. O(N^2) memory: for tests and for reading, not for maps of real size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .products import exact_products

__all__ = ["own_weights", "transition", "valid_pixels", "walk"]


def valid_pixels(embeddings: Tensor, values: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Pixels that belong to the graph, [..., N] bool: let in by the mask, finite in embedding and value."""
    valid = embeddings.isfinite().all(-1)
    if values is not None:
        valid = valid & values.isfinite().all(-1)
    return valid if mask is None else valid & mask


@exact_products
def transition(embeddings: Tensor, *, temperature: float = 0.01) -> Tensor:
    """Transition matrix S of valid pixels.

    ``S_ij = exp(q_i . q_j / temperature) / sum_{k != i} exp(q_i . q_k / temperature)``, ``S_ii = 0``, with
    ``q = e / max(||e||, 1e-12)``.

    Args:
        embeddings: [N, D] floating point, finite, N >= 2.
        temperature: softmax temperature tau > 0.

    Returns:
        S: [N, N], rows sum to 1, zero diagonal.
    """
    q = torch.nn.functional.normalize(embeddings, dim=-1, eps=1e-12)  # [N, D]
    logits = q @ q.T / temperature  # [N, N]
    return torch.softmax(logits.fill_diagonal_(-torch.inf), dim=-1)


@exact_products
def own_weights(
    embeddings: Tensor, *, anchor: float = -1.0, anchor_share: float = 0.0, temperature: float = 0.01
) -> Tensor:
    """Weight r of every pixel's own value in its row of the anchored walk.

    ``r_i = exp(s0 / temperature) / (Z_i + exp(s0 / temperature))``, with ``Z_i`` the sum of ``exp(q_i . q_k /
    temperature)`` over the other pixels: as if every pixel had itself as one more neighbor, at the cosine ``s0``.

    Args:
        embeddings: [N, D] floating point, finite, N >= 2.
        anchor: s0; -1 or lower: no anchor, r = 0.
        anchor_share: in [0, 1]; above 0, s0 is ``temperature * log Z`` of the pixel that has the
            ``ceil(anchor_share * N)``-th smallest, so that r >= 1/2 for this share of the pixels.
        temperature: softmax temperature tau > 0.

    Returns:
        r: [N], in [0, 1].
    """
    q = torch.nn.functional.normalize(embeddings, dim=-1, eps=1e-12)
    log_sum = torch.logsumexp((q @ q.T / temperature).fill_diagonal_(-torch.inf), dim=-1)  # [N]
    if anchor_share > 0:
        return torch.sigmoid(log_sum.kthvalue(math.ceil(anchor_share * len(log_sum))).values - log_sum)
    if anchor <= -1:
        return torch.zeros_like(log_sum)
    return torch.sigmoid(anchor / temperature - log_sum)


@exact_products
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = 0.99,
    steps: int = 20,
    temperature: float = 0.01,
    anchor: float = -1.0,
    anchor_share: float = 0.0,
) -> Tensor:
    """Random walk with restart: ``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v`` (equation S.5).

    With an anchor, ``alpha (1 - r_i)`` takes the place of alpha in row i; see :func:`own_weights`.

    A pixel that is masked out, or whose embedding or value is not finite, is no part of the graph and keeps its value;
    so does a pixel that has no other valid pixel.

    Args:
        embeddings: [N, D] or [B, N, D] floating point.
        values: [..., N, C]; the embeddings themselves when None.
        mask: [..., N] bool, True = valid; all valid when None.
        alpha: probability to go on, in [0, 1].
        steps: number of transitions, >= 0 (the released code does one more than its T).
        temperature: softmax temperature tau > 0.
        anchor: cosine s0 of a pixel with its own value; -1 or lower: no anchor.
        anchor_share: share of the pixels that s0 is chosen to anchor, in [0, 1]; 0: s0 is ``anchor``.

    Returns:
        Walked values: [..., N, C], in the values' dtype.
    """
    values = embeddings if values is None else values
    if embeddings.dim() == 3:
        masks = [None] * len(embeddings) if mask is None else mask
        settings: dict[str, Any] = {"alpha": alpha, "steps": steps, "temperature": temperature}
        settings |= {"anchor": anchor, "anchor_share": anchor_share}
        walked = [walk(e, v, mask=m, **settings) for e, v, m in zip(embeddings, values, masks, strict=True)]
        return torch.stack(walked) if walked else values.clone()

    valid = valid_pixels(embeddings, values, mask)
    if steps == 0 or valid.sum() < 2:
        return values.clone()
    S = transition(embeddings[valid], temperature=temperature)
    r = own_weights(embeddings[valid], anchor=anchor, anchor_share=anchor_share, temperature=temperature)
    continuing = alpha * (1 - r.double()[:, None])
    continuing, restart = continuing.to(S.dtype), (1 - continuing).to(S.dtype)
    start = values[valid].to(S.dtype)
    m = start
    for _ in range(steps):
        m = continuing * (S @ m) + restart * start
    result = values.clone()
    result[valid] = m.to(values.dtype)
    return result
