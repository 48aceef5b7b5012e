"""What users would do otherwise, written with torch as they would write it today: the peers of every benchmark.

Embeddings [N, D], values [N, C], all pixels valid: the published code knows neither masks nor batches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import check_settings, check_shapes

# Elements of a slab of similarities [rows, N]: 256 MiB in float32.
SLAB = 2**26


def _start(embeddings: Tensor, values: Tensor | None, alpha: float, steps: int, temperature: float) -> tuple:
    check_settings(alpha, steps, temperature)
    check_shapes(embeddings, values)
    if embeddings.dim() != 2:
        raise ValueError(f"embeddings: expected shape [N, D], got {list(embeddings.shape)}")
    if len(embeddings) < 2:
        raise ValueError(f"embeddings: expected 2 or more pixels, got {len(embeddings)}")
    return F.normalize(embeddings, dim=-1, eps=1e-12), embeddings if values is None else values


def _blocks(q: Tensor) -> list[slice]:
    rows = max(1, SLAB // len(q))
    return [slice(begin, min(begin + rows, len(q))) for begin in range(0, len(q), rows)]


def _similarities(q: Tensor, block: slice) -> Tensor:  # [rows, N], the pixel itself removed
    s = q[block] @ q.T
    s[torch.arange(len(s), device=s.device), torch.arange(block.start, block.stop, device=s.device)] = -torch.inf
    return s


def iterate(transition: Callable[[Tensor], Tensor], start: Tensor, alpha: float, steps: int) -> Tensor:
    """``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v = start`` [N, C]; ``transition`` gives S m."""
    m = start
    for _ in range(steps):
        m = alpha * transition(m) + (1 - alpha) * start
    return m


def dense_walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    alpha: float = 0.99,
    steps: int = 20,
    temperature: float = 0.01,
    released: bool = False,
    flush: bool = False,
) -> Tensor:
    """The published way: the transition matrix in memory, then one product a step (equation S.5).

    The matrix, 4 N^2 bytes in float32, is built a slab of rows at a time, so that it is the only N x N array; the
    released code holds several.

    Args:
        embeddings: [N, D]; values: [N, C] or None for the embeddings.
        alpha, steps, temperature: as of :func:`rwpm_fast.walk`.
        released: do as the released code: one transition before the loop and ``steps`` in it, so ``steps + 1`` in all.
        flush: set subnormal entries of the matrix to zero. At tau = 0.01 many are, they add nothing, and processors
            multiply them many times slower; nobody's published code does this, but a fair comparison should.

    Returns:
        Walked values [N, C].
    """
    q, start = _start(embeddings, values, alpha, steps, temperature)
    S = q.new_empty(len(q), len(q))
    for block in _blocks(q):
        torch.softmax(_similarities(q, block).div_(temperature), dim=-1, out=S[block])
        if flush:
            F.threshold_(S[block], torch.finfo(S.dtype).tiny, 0)
    return iterate(lambda m: S @ m, start, alpha, steps + released)


def chunked_walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    alpha: float = 0.99,
    steps: int = 20,
    temperature: float = 0.01,
) -> Tensor:
    """The same walk where the matrix does not fit: every slab of it is made anew at every step.

    Args and result as of :func:`dense_walk`.
    """
    q, start = _start(embeddings, values, alpha, steps, temperature)

    def transition(m: Tensor) -> Tensor:
        return torch.cat([torch.softmax(_similarities(q, block).div_(temperature), dim=-1) @ m for block in _blocks(q)])

    return iterate(transition, start, alpha, steps)


def nearest(q: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Cosines and indices, [N, k] each, of every unit vector's ``neighbours`` most similar others; q: [N, D]."""
    found = [_similarities(q, block).topk(neighbours, dim=-1) for block in _blocks(q)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def knn_walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    neighbours: int = 50,
    alpha: float = 0.99,
    steps: int = 20,
    temperature: float = 0.01,
    search: Callable[[Tensor, int], tuple[Tensor, Tensor]] = nearest,
) -> Tensor:
    """The walk on a k-nearest-neighbour graph, the alternative of Table S.3: another operator, not an approximation.

    Every pixel keeps its ``neighbours`` most similar others by cosine. The supplement does not say how they are
    weighted; here the softmax at ``temperature`` is restricted to them, so that k = N - 1 is the walk itself and the
    table's one variable is k.

    Args:
        embeddings: [N, D]; values: [N, C] or None for the embeddings.
        neighbours: k, from 1 to N - 1.
        alpha, steps, temperature: as of :func:`rwpm_fast.walk`.
        search: what finds the neighbours, another library's in place of :func:`nearest`, whose arguments and result it
            shares.

    Returns:
        Walked values [N, C].

    Raises:
        ValueError: ``neighbours`` outside its range.
    """
    q, start = _start(embeddings, values, alpha, steps, temperature)
    if not 1 <= neighbours < len(q):
        raise ValueError(f"neighbours: expected 1 to {len(q) - 1} for {len(q)} pixels, got {neighbours}")
    cosines, columns = search(q, neighbours)  # [N, k] each
    weights = torch.softmax(cosines / temperature, dim=-1)
    columns, order = columns.sort(-1)  # ascending as CSR wants them
    crow = torch.arange(0, columns.numel() + 1, neighbours, device=q.device)
    weights = weights.gather(-1, order).flatten()
    S = torch.sparse_csr_tensor(crow, columns.flatten(), weights, (len(q), len(q)), check_invariants=False)
    return iterate(lambda m: S @ m, start, alpha, steps)
