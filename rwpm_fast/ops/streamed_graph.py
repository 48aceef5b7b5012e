"""Products with the transition matrix of a graph in plain torch, a slab of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..products import exact_products
from .settings import cosine_scale

# Elements of a slab [rows, N]: 64 MiB in float32.
SLAB = 2**24

# A logit that is further below its row's largest counts as this: a weight of 1e-30 changes no sum, and subnormal ones,
# from 1e-38 on in float32, would make products ten times slower.
MIN_LOGIT = -69.0


@exact_products
def log_sums(embeddings: Tensor, temperature: float) -> Tensor:
    """Compute the logarithm of the sum of exp(cosine / temperature) of every row, [n].

    Args:
        embeddings: [n, D] floating point, finite.
        temperature: softmax temperature tau > 0.
    """
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    return StreamedGraph(unit_rows(embeddings), temperature).log_sum() if len(embeddings) else embeddings.new_empty(0)


def unit_rows(embeddings: Tensor) -> Tensor:
    """Scale rows to length one, ``e / max(||e||, 1e-12)``, so that no square over- or underflows.

    Args:
        embeddings: [n, D] float32 or float64, finite.

    Returns:
        [n, D].
    """
    peak = embeddings.abs().amax(-1, keepdim=True) if embeddings.shape[-1] else embeddings.new_zeros(1, 1)
    e = embeddings / peak.where(peak > 0, 1)
    norm = torch.linalg.vector_norm(e, dim=-1, keepdim=True)
    return e / norm.clamp_min(1e-12 / peak.clamp_min(1e-38))


class StreamedGraph:
    """Products with the transition matrix S of a graph, or with some of its rows, a slab at a time."""

    def __init__(
        self,
        unit: Tensor,
        temperature: float,
        *,
        rows: slice | None = None,
        on_weights: Callable[[Tensor, Tensor], None] | None = None,
    ) -> None:
        """
        Args:
            unit: [n, D] float32 or float64, as :func:`unit_rows` returns them, n >= 2.
            temperature: softmax temperature tau > 0.
            rows: of S that products are made with, r consecutive ones; all when None.
            on_weights: gets these rows once, a slab [.., n] of weights relative to each row's largest and their sums
                [.., 1] after the other, to keep of them what it likes.
        """
        self._unit = unit
        self._scale = cosine_scale(temperature)
        self._first, stop, _ = slice(0, len(unit)).indices(len(unit)) if rows is None else rows.indices(len(unit))
        size = stop - self._first
        step = max(1, SLAB // len(unit))
        self._blocks = [slice(begin, min(begin + step, size)) for begin in range(0, size, step)]
        self._row_max, self._row_sum = unit.new_empty(size, 1), unit.new_empty(size, 1)
        for block in self._blocks:
            c = self._cosines(block)
            self._row_max[block] = c.amax(-1, keepdim=True)
            weights = self._weights(c, self._row_max[block])
            self._row_sum[block] = weights.sum(-1, keepdim=True)
            if on_weights is not None:
                on_weights(weights, self._row_sum[block])

    def _cosines(self, block: slice) -> Tensor:
        begin, end = self._first + block.start, self._first + block.stop
        c = self._unit[begin:end] @ self._unit.T  # [rows, n]
        c[torch.arange(len(c)), torch.arange(begin, end)] = -torch.inf
        return c

    def _weights(self, cosines: Tensor, largest: Tensor) -> Tensor:
        """Weights relative to those of the largest cosines; overwrites the cosines."""
        # A product may give a pair two cosines that differ in the last bit: no weight exceeds the largest.
        return cosines.sub_(largest).mul_(self._scale).clamp_(MIN_LOGIT, 0).exp_()

    def log_sum(self) -> Tensor:
        """Logarithm of the sum of exp(cosine / temperature) of every row, [r]."""
        return (self._row_max * self._scale + self._row_sum.log()).squeeze(-1)

    def multiply(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by these rows of S: [r, C]."""
        product = m.new_empty(len(self._row_max), m.shape[-1])
        for block in self._blocks:
            weights = self._weights(self._cosines(block), self._row_max[block])
            product[block] = (weights @ m).div_(self._row_sum[block])
        return product

    def multiply_transposed(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by the transpose of all of S: S^T g = K (g / Z), the weights of row i are in column i."""
        product, shares = torch.empty_like(m), m / self._row_sum
        for block in self._blocks:
            weights = self._weights(self._cosines(block), self._row_max.T)
            product[block] = weights @ shares
        return product

    def multiply_pairs(self, left: Tensor, right: Tensor, offset: Tensor) -> Tensor:
        """Multiply the unit embeddings by H + H^T, ``H_ij = S_ij (left_i . right_j + offset_i)``, for all of S: [n, D].

        Args:
            left: [n, K].
            right: [n, K].
            offset: [n].
        """
        product = torch.empty_like(self._unit)
        offset = offset[:, None]
        for block in self._blocks:
            cosines = self._cosines(block)
            h = self._weights(cosines.clone(), self._row_max[block]) / self._row_sum[block]
            h *= torch.addmm(offset[block], left[block], right.T)
            transposed = self._weights(cosines, self._row_max.T) / self._row_sum.T
            h += transposed.mul_(torch.addmm(offset.T, right[block], left.T))
            product[block] = h @ self._unit
        return product
