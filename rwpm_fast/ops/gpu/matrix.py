"""The pairs of one image's graph, kept to be walked many times: what :class:`rwpm_fast.Transition` holds on a GPU."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..anchor import iterate
from ..csr import csr_of_pairs
from ..gradient import Gradients
from ..pair_graph import pair_gradients
from ..streamed_graph import unit_rows
from .anchor import log_sums
from .backward import image_gradients
from .exact import row_sums
from .gradient import TransitionProducts
from .pack import PackedGraph, pack_graph, pack_state, unpack_state
from .sparse import GROUP, Pairs, build_pairs
from .transpose import TransposablePairs, sort_slots
from .walk import take_steps


class BlockSparseMatrix:
    """S as groups of rows that share their columns, in dense weight blocks. Made by :func:`build_matrix`.

    Attributes:
        dropped_mass: [n] float32, upper bound of the share of its mass that a row dropped.
        log_sum: [n] float32, logarithm of the sum of exp(cosine / temperature) over what a row keeps.
    """

    def __init__(self, graph: PackedGraph, pairs: Pairs):
        self._graph = graph
        self._pairs = pairs
        self.dropped_mass = pairs.dropped_mass[0, : graph.pixels]
        self.log_sum = log_sums(None, pairs)[0, : graph.pixels]

    def walk(self, values: Tensor, *, alpha: float, steps: int, own_weight: Tensor | None = None) -> Tensor:
        """Walk values [n, C]; see :class:`rwpm_fast.ops.backends.Matrix`."""
        if values.requires_grad and torch.is_grad_enabled():
            return _Walk.apply(values, self, alpha, steps, own_weight)
        if values.dtype == torch.float64 or steps == 0 or values.numel() == 0:
            return _iterate(self._csr, values, alpha, steps, own_weight)
        start, factor = pack_state(values[None], self._graph, check=False)
        continuing = self._graph.per_row(alpha)
        if own_weight is not None:
            continuing[0, : self._graph.pixels] *= 1 - own_weight
        state = take_steps(self._graph, start, continuing, steps, pairs=self._pairs).to_float()
        return unpack_state(state, factor, self._graph, values[None])[0]

    def gradients(
        self,
        gradient: Tensor,
        embeddings: Tensor,
        values: Tensor,
        *,
        alpha: float,
        steps: int,
        temperature: float,
        **anchor: float,
    ) -> Gradients:
        """Differentiate :meth:`walk`; see :class:`rwpm_fast.ops.backends.Matrix`."""
        if steps == 0:
            by_temperature = gradient.new_zeros((), dtype=torch.float64)
            return Gradients(torch.zeros_like(embeddings), gradient.clone(), by_temperature)
        settings: dict[str, Any] = {"alpha": alpha, "steps": steps, "temperature": temperature, **anchor}
        if values.dtype == torch.float64 or values.numel() == 0:
            return pair_gradients(self.pairs(), self.log_sum, gradient, embeddings, values, **settings)
        e = embeddings.float()
        no_sums = row_sums(self._graph, self._pairs.streaming_blocks)
        products = TransitionProducts(self._graph, no_sums, unit_rows(e), self._transposable)
        got = image_gradients(products, self.log_sum, gradient.float(), e, values.float(), **settings)
        by_embeddings, by_values = got.embeddings.to(embeddings.dtype), got.values.to(values.dtype)
        return Gradients(by_embeddings, by_values, got.temperature)

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return row, column and weight of every pair: [kept] each."""
        lists = self._pairs
        device = lists.counts.device
        counts = lists.counts.long()
        group = torch.arange(len(counts), device=device).repeat_interleave(counts)
        slot = lists.begins[group] + torch.arange(len(group), device=device) - (counts.cumsum(0) - counts)[group]
        column = lists.columns[slot].long()
        weight = lists.weights.to_float().transpose(1, 2).reshape(-1, GROUP)  # [capacity, GROUP]
        entry, in_group = (weight[slot] > 0).nonzero(as_tuple=True)
        row = group[entry] * GROUP + in_group
        return row, column[entry], weight[slot[entry], in_group] * lists.weight_factor[0, row]

    @cached_property
    def _csr(self) -> Tensor:
        return csr_of_pairs(*self.pairs(), self._graph.pixels)

    @cached_property
    def _transposable(self) -> TransposablePairs:
        return TransposablePairs(self._pairs, sort_slots(self._pairs))

    @cached_property
    def _transposed(self) -> Tensor:
        row, column, weight = self.pairs()
        return csr_of_pairs(column, row, weight, self._graph.pixels)


def build_matrix(embeddings: Tensor, *, temperature: float, tolerance: float) -> BlockSparseMatrix | None:
    """Build S of embeddings [n, D], all valid; None if some rows would stream. Waits for the device."""
    graph = pack_graph(embeddings[None], None, temperature)
    pairs = build_pairs(graph, tolerance, has_low=True)
    return None if pairs.streaming_blocks.any() else BlockSparseMatrix(graph, pairs)


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, matrix, alpha, steps, own_weight):
        ctx.matrix, ctx.settings = matrix, (alpha, steps, own_weight)
        return matrix.walk(values.detach(), alpha=alpha, steps=steps, own_weight=own_weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        walked = _iterate(ctx.matrix._transposed, gradient, *ctx.settings, adjoint=True)
        return walked, None, None, None, None


def _iterate(
    S: Tensor, values: Tensor, alpha: float, steps: int, own_weight: Tensor | None, *, adjoint: bool = False
) -> Tensor:
    S, start = (t.to(torch.promote_types(values.dtype, torch.float32)) for t in (S, values))
    walked = iterate(S.matmul, start, alpha=alpha, steps=steps, own_weight=own_weight, adjoint=adjoint)
    return walked.to(values.dtype)
