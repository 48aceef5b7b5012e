"""Products with the transition matrix of a graph in plain torch, a slab of rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..products import exact_products
from .settings import cosine_scale

# Elements of a slab [rows, N]: 64 MiB in float32.
SLAB = 2**24


@exact_products
def log_sums(embeddings: Tensor, temperature: float) -> Tensor:
    """Compute the logarithm of the sum of exp(cosine / temperature) of every row, [n].

    Args:
        embeddings: [n, D] floating point, finite.
        temperature: softmax temperature tau > 0.
    """
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    return StreamedGraph(embeddings, temperature).log_sum() if len(embeddings) else embeddings.new_empty(0)


class StreamedGraph:
    """Products with the transition matrix S of a graph, which is computed a slab of rows at a time."""

    def __init__(self, embeddings: Tensor, temperature: float) -> None:
        """
        Args:
            embeddings: [n, D] float32 or float64, finite, n >= 2.
            temperature: softmax temperature tau > 0.
        """
        peak = embeddings.abs().amax(-1, keepdim=True) if embeddings.shape[-1] else embeddings.new_zeros(1, 1)
        e = embeddings / peak.where(peak > 0, 1)  # so that no square over- or underflows
        norm = torch.linalg.vector_norm(e, dim=-1, keepdim=True)
        self._q = e / norm.clamp_min(1e-12 / peak.clamp_min(1e-38))  # [n, D]
        self._scale = cosine_scale(temperature)
        rows = max(1, SLAB // len(e))
        self._blocks = [slice(begin, min(begin + rows, len(e))) for begin in range(0, len(e), rows)]
        self._row_max, self._row_sum = e.new_empty(len(e), 1), e.new_empty(len(e), 1)
        for block in self._blocks:
            c = self._cosines(block)
            self._row_max[block] = c.amax(-1, keepdim=True)
            self._row_sum[block] = c.sub_(self._row_max[block]).mul_(self._scale).exp_().sum(-1, keepdim=True)

    def _cosines(self, block: slice) -> Tensor:
        c = self._q[block] @ self._q.T  # [rows, n]
        c[torch.arange(len(c)), torch.arange(block.start, block.stop)] = -torch.inf
        return c

    def log_sum(self) -> Tensor:
        """Logarithm of the sum of exp(cosine / temperature) of every row, [n]."""
        return (self._row_max * self._scale + self._row_sum.log()).squeeze(-1)

    def multiply(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by S."""
        product = torch.empty_like(m)
        for block in self._blocks:
            weights = self._cosines(block).sub_(self._row_max[block]).mul_(self._scale).exp_()
            product[block] = weights.div_(self._row_sum[block]) @ m
        return product

    def multiply_transposed(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by the transpose of S: S^T g = K (g / Z), the weights of row i are in column i."""
        product, shares = torch.empty_like(m), m / self._row_sum
        for block in self._blocks:
            # A product may give a pair two cosines that differ in the last bit: no weight exceeds the largest.
            weights = self._cosines(block).sub_(self._row_max.T).clamp_max_(0).mul_(self._scale).exp_()
            product[block] = weights @ shares
        return product
