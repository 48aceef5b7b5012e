"""Baselines of every benchmark: what users would write today with torch alone.

They take embeddings [N, D] and values [N, C] with all pixels valid: the published code has neither masks nor batches.
:class:`KnnWalk` applies one of them to maps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .ops.csr import csr_matrix
from .ops.maps import partition_edges, walk_blocks
from .ops.settings import DEFAULTS, WalkSettings, check_settings
from .ops.validation import check_shapes
from .products import exact_products

__all__ = ["KNN_WEIGHTS", "KnnWalk", "check_weights", "chunked_walk", "dense_walk", "iterate", "knn_walk", "nearest"]

# Elements of a slab of similarities [rows, N]: 256 MiB in float32.
SLAB = 2**26

KNN_WEIGHTS = ("softmax", "cosine")


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
    """Compute ``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v``.

    Args:
        transition: function that multiplies [N, C] by S.
        start: v, [N, C].
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.

    Returns:
        Walked values [N, C].
    """
    m = start
    for _ in range(steps):
        m = alpha * transition(m) + (1 - alpha) * start
    return m


@exact_products
def dense_walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
    released: bool = False,
    flush: bool = False,
) -> Tensor:
    """Walk as published: hold the transition matrix in memory, then make one product a step (equation S.5).

    The matrix, 4 N^2 bytes in float32, is built a slab of rows at a time, so that it is the only N x N array; the
    released code holds several.

    Args:
        embeddings: [N, D].
        values: [N, C]; the embeddings when None.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0.
        released: make ``steps + 1`` transitions, as the released code does: one before the loop and ``steps`` in it.
        flush: set subnormal entries of the matrix to zero, at tau = 0.01 one in 90 of a real matrix; they add nothing,
            and processors multiply them many times slower. No published code does this, but a fair comparison should.

    Returns:
        Walked values [N, C].

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: shapes or settings that do not fit, or fewer than two pixels.
    """
    q, start = _start(embeddings, values, alpha, steps, temperature)
    S = q.new_empty(len(q), len(q))
    for block in _blocks(q):
        torch.softmax(_similarities(q, block).div_(temperature), dim=-1, out=S[block])
        if flush:
            F.threshold(S[block], torch.finfo(S.dtype).tiny, 0, inplace=True)
    return iterate(lambda m: S @ m, start, alpha, steps + released)


@exact_products
def chunked_walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
) -> Tensor:
    """Walk where the matrix does not fit into memory: every slab of it is computed again in every step.

    Args:
        embeddings: [N, D].
        values: [N, C]; the embeddings when None.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0.

    Returns:
        Walked values [N, C].

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: shapes or settings that do not fit, or fewer than two pixels.
    """
    q, start = _start(embeddings, values, alpha, steps, temperature)

    def transition(m: Tensor) -> Tensor:
        return torch.cat([torch.softmax(_similarities(q, block).div_(temperature), dim=-1) @ m for block in _blocks(q)])

    return iterate(transition, start, alpha, steps)


@exact_products
def nearest(q: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Find the most similar other vectors of every unit vector.

    Args:
        q: [N, D], unit vectors.
        neighbors: k, from 1 to N - 1.

    Returns:
        Cosines and indices, [N, k] each.
    """
    found = [_similarities(q, block).topk(neighbors, dim=-1) for block in _blocks(q)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


@exact_products
def knn_walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    neighbors: int = 50,
    weights: str = "softmax",
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
    search: Callable[[Tensor, int], tuple[Tensor, Tensor]] = nearest,
) -> Tensor:
    """Walk on a k-nearest-neighbor graph, the alternative of Table S.3: another operator, not an approximation.

    Every pixel keeps its ``neighbors`` most similar others by cosine. The supplement does not say how they are
    weighted, so there are two ways:

    - ``"softmax"`` restricts the softmax at ``temperature`` to them: k = N - 1 is the walk itself.
    - ``"cosine"`` divides their cosines, with negative ones set to zero, by the sum; a pixel without a positive one
      weights all k equally. At small angles this is nearly a plain mean, so that only k limits the noise, as the
      supplement says.

    Args:
        embeddings: [N, D].
        values: [N, C]; the embeddings when None.
        neighbors: k, from 1 to N - 1.
        weights: ``"softmax"`` or ``"cosine"``.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0; ``"cosine"`` does not use it.
        search: function that finds the neighbors, with the arguments and the result of :func:`nearest`, such as that of
            another library.

    Returns:
        Walked values [N, C].

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: ``neighbors`` or a setting out of its range, unknown ``weights``, or shapes that do not fit.
    """
    check_weights(weights)
    q, start = _start(embeddings, values, alpha, steps, temperature)
    if not 1 <= neighbors < len(q):
        raise ValueError(f"neighbors: expected 1 to {len(q) - 1} for {len(q)} pixels, got {neighbors}")
    cosines, columns = search(q, neighbors)  # [N, k] each
    if weights == "softmax":
        kept = torch.softmax(cosines / temperature, dim=-1)
    else:
        kept = F.normalize(cosines.clamp_min(torch.finfo(q.dtype).tiny), p=1, dim=-1, eps=0)
    columns, order = columns.sort(-1)  # ascending, as CSR requires
    crow = torch.arange(0, columns.numel() + 1, neighbors, device=q.device)
    kept = kept.gather(-1, order)
    S = csr_matrix(crow, columns.flatten(), kept.flatten())
    return iterate(lambda m: S @ m, start, alpha, steps)


def check_weights(weights: str) -> None:
    """Check the name of a weighting.

    Raises:
        ValueError: ``weights`` is not one of :data:`KNN_WEIGHTS`.
    """
    if weights not in KNN_WEIGHTS:
        raise ValueError(f"weights: expected one of {', '.join(KNN_WEIGHTS)}, got {weights!r}")


class KnnWalk(nn.Module):
    """A module that walks maps by :func:`knn_walk`, to put between a network and its head like :class:`rwpm_fast.Walk`.

    Args:
        neighbors: k, 1 or more, and fewer than the pixels of a sub-map.
        weights: ``"softmax"`` or ``"cosine"``; see :func:`knn_walk`.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0; ``"cosine"`` does not use it.
        parts: n of the paper: the map is cut into n x n sub-maps; 1: uncut.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        neighbors: int = 50,
        weights: str = "softmax",
        alpha: float = DEFAULTS.alpha,
        steps: int = DEFAULTS.steps,
        temperature: float = DEFAULTS.temperature,
        *,
        parts: int = DEFAULTS.parts,
    ) -> None:
        super().__init__()
        check_weights(weights)
        if neighbors < 1:
            raise ValueError(f"neighbors: expected 1 or more, got {neighbors}")
        self.neighbors = neighbors
        self.weights = weights
        self.settings = WalkSettings(alpha, steps, temperature, parts=parts)

    @property
    def parts(self) -> int:
        """n of the paper, as in ``settings``."""
        return self.settings.parts

    def forward(self, embedding_map: Tensor, value_map: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Walk a map.

        Args:
            embedding_map: [B, D, H, W].
            value_map: [B, C, H, W], walked on the graph of the embeddings; the embeddings when None.
            mask: None, since the k-NN graph takes all pixels.

        Returns:
            Walked values, [B, C, H, W].

        Raises:
            ValueError: a mask, or a sub-map with too few pixels for ``neighbors``.
        """
        if mask is not None:
            raise ValueError("mask: the k-NN graph takes all pixels; pass None")
        edges = (partition_edges(side, self.settings.parts) for side in embedding_map.shape[-2:])
        return walk_blocks(self._walk_each, embedding_map, value_map, None, *edges)

    def _walk_each(self, embeddings: Tensor, values: Tensor | None, mask: None) -> Tensor:
        """Walk embeddings [M, N, D], or values [M, N, C] on their graphs: [M, N, C]."""
        values = embeddings if values is None else values
        s = self.settings
        walk = partial(
            knn_walk,
            neighbors=self.neighbors,
            weights=self.weights,
            alpha=s.alpha,
            steps=s.steps,
            temperature=s.temperature,
        )
        return torch.stack([walk(e, v) for e, v in zip(embeddings, values, strict=True)])

    def extra_repr(self) -> str:
        s = self.settings
        return (
            f"neighbors={self.neighbors}, weights={self.weights!r}, alpha={s.alpha}, steps={s.steps}, "
            f"temperature={s.temperature}, parts={s.parts}"
        )
