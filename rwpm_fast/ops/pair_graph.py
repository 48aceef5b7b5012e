"""Products with a transition matrix of listed pairs in plain torch, for gradients on any device."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from .anchor import own_weights
from .csr import csr_of_pairs
from .gradient import Gradients, anchor_gradient, through_length, unit_gradients
from .streamed_graph import unit_rows

# Numbers of the pairs' vectors that are gathered at a time: 64 MiB in float32.
SLAB = 2**24


class PairGraph:
    """Products with S, of which every pair of pixels is listed with its weight.

    See :class:`rwpm_fast.ops.gradient.DifferentiableGraph`.
    """

    def __init__(self, unit: Tensor, row: Tensor, column: Tensor, weight: Tensor) -> None:
        """
        Args:
            unit: unit embeddings, [n, D] float32 or float64.
            row: [pairs] int64.
            column: [pairs] int64.
            weight: [pairs].
        """
        self._unit, self._row, self._column, self._weight = unit, row, column, weight.to(unit.dtype)

    @cached_property
    def _matrix(self) -> Tensor:
        return csr_of_pairs(self._row, self._column, self._weight, len(self._unit))

    @cached_property
    def _transposed(self) -> Tensor:
        return csr_of_pairs(self._column, self._row, self._weight, len(self._unit))

    def multiply(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by S."""
        return self._matrix @ m

    def multiply_transposed(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by the transpose of S."""
        return self._transposed @ m

    def multiply_pairs(self, left: Tensor, right: Tensor, offset: Tensor) -> Tensor:
        """Multiply the unit embeddings by H + H^T, ``H_ij = S_ij (left_i . right_j + offset_i)``: [n, D].

        Args:
            left: [n, K].
            right: [n, K].
            offset: [n].
        """
        h = torch.empty_like(self._weight)
        for begin in range(0, len(h), step := max(1, SLAB // max(1, left.shape[-1]))):
            row, column = self._row[begin : begin + step], self._column[begin : begin + step]
            h[begin : begin + step] = (left[row] * right[column]).sum(-1) + offset[row]
        h *= self._weight
        both = torch.cat([self._row, self._column]), torch.cat([self._column, self._row])
        return csr_of_pairs(*both, torch.cat([h, h]), len(self._unit)) @ self._unit


def pair_gradients(
    pairs: tuple[Tensor, Tensor, Tensor],
    log_sum: Tensor,
    gradient: Tensor,
    embeddings: Tensor,
    values: Tensor,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    anchor: float,
    anchor_share: float,
) -> Gradients:
    """Differentiate a walk on listed pairs.

    Args:
        pairs: row, column and weight of every pair, [pairs] each.
        log_sum: logarithm of the sum of exp(cosine / temperature) of every row, [n].
        gradient: of the result, [n, C].
        embeddings: [n, D].
        values: [n, C].
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, > 0.
        temperature: softmax temperature tau > 0.
        anchor: cosine s0 of a pixel with its own value; -1 or lower: no anchor.
        anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    e = embeddings.to(dtype)
    unit = unit_rows(e)
    settings = {"temperature": temperature, "anchor": anchor, "anchor_share": anchor_share}
    got = unit_gradients(
        PairGraph(unit, *pairs),
        unit,
        values.to(dtype),
        gradient.to(dtype),
        alpha=alpha,
        steps=steps,
        temperature=temperature,
        anchor=anchor_gradient(log_sum, own_weights(log_sum, **settings), **settings),
    )
    by_embeddings = through_length(e, unit, got.embeddings).to(embeddings.dtype)
    return Gradients(by_embeddings, got.values.to(values.dtype), got.temperature)
