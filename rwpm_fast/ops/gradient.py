"""The gradient of a walk with respect to embeddings, values and temperature, over the products that a graph offers.

A transition is ``m_t+1 = a S m_t + (1 - a) v``, with a of each row; a = alpha (1 - r) with an anchor. Let g_t be the
gradient with respect to m_t, from ``g_T``, the one of the result, down: ``g_t = S^T (a g_t+1)``. Then

- ``dL/dv = g_0 + sum_t (1 - a) g_t+1``, t = 0 .. T - 1,
- ``dL/dS_ij = P_ij = sum_t a_i g_t+1,i . m_t,j``: a product of two matrices [n, T C],
- ``dL/dx_ij = S_ij (P_ij - rho_i + kappa_i)`` with the logits x = cosine / tau, the row's mean ``rho_i = sum_j S_ij
  P_ij = sum_t a_i g_t+1,i . (S m_t)_i``, and ``kappa_i = dL/d log Z_i``, what the anchor adds; 0 without one,
- ``dL/dq_i = sum_j (dL/dx_ij + dL/dx_ji) q_j / tau`` for unit embeddings q, through whose length it passes to e,
- ``dL/dtau = - sum_ij dL/dx_ij x_ij / tau = - sum_i q_i . dL/dq_i / (2 tau)``, with the anchor's share on top.

Nothing is [n, n]: P is formed for the pairs that a row keeps, or a tile at a time. The states S m_t are computed again,
which takes a forward walk, and kept: T n C numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .settings import cosine_scale


class Gradients(NamedTuple):
    """Gradients of a walk.

    Attributes:
        embeddings: like the embeddings.
        values: like the values.
        temperature: [] float64.
    """

    embeddings: Tensor
    values: Tensor
    temperature: Tensor


class DifferentiableGraph(Protocol):
    """Products with the transition matrix S of a graph of n pixels."""

    def multiply(self, m: Tensor) -> Tensor:
        """S m, [n, C]."""
        ...

    def multiply_transposed(self, m: Tensor) -> Tensor:
        """S^T m, [n, C]."""
        ...

    def multiply_pairs(self, left: Tensor, right: Tensor, offset: Tensor) -> Tensor:
        """(H + H^T) q, [n, D], for unit embeddings q and ``H_ij = S_ij (left_i . right_j + offset_i)``.

        Args:
            left: [n, K].
            right: [n, K].
            offset: [n].
        """
        ...


class AnchorGradient(NamedTuple):
    """How an anchor's weights r follow the row sums Z and the temperature.

    Attributes:
        own_weight: r, [n].
        anchor: s0, the cosine that is given; None where it is chosen from the row sums.
        chosen: [1], the row whose log Z is s0 / tau; None where s0 is given.
    """

    own_weight: Tensor
    anchor: float | None
    chosen: Tensor | None


def anchor_gradient(
    log_sum: Tensor, own_weight: Tensor | None, *, anchor: float, anchor_share: float, **_: float
) -> AnchorGradient | None:
    """Describe how the weights of :func:`rwpm_fast.ops.anchor.own_weights` depend on the graph.

    Args:
        log_sum: [n], of which the weights were made; inf for a row that is no part of the graph.
        own_weight: [n], the weights; None without an anchor.
        anchor: cosine s0 of a pixel with its own value.
        anchor_share: share of the pixels that s0 is chosen to anchor, in [0, 1]; 0: s0 is ``anchor``.
    """
    if own_weight is None:
        return None
    if anchor_share == 0:
        return AnchorGradient(own_weight, anchor, None)
    count = (log_sum < math.inf).sum(-1, keepdim=True)
    rank = (anchor_share * count.double()).ceil().long() - 1
    return AnchorGradient(own_weight, None, log_sum.sort(stable=True).indices[rank.clamp_min(0)])


def unit_gradients(
    graph: DifferentiableGraph,
    unit: Tensor,
    values: Tensor,
    gradient: Tensor,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    anchor: AnchorGradient | None = None,
) -> Gradients:
    """Differentiate a walk on the n pixels of a graph.

    Args:
        graph: of the pixels.
        unit: unit embeddings q, [n, D].
        values: v, [n, C].
        gradient: of the result, [n, C].
        alpha: continuing probability, in [0, 1].
        steps: number of transitions T, > 0.
        temperature: softmax temperature tau > 0.
        anchor: None without an anchor.

    Returns:
        Gradients with respect to the unit embeddings (see :func:`through_length`), the values and the temperature.
    """
    own_weight = unit.new_zeros(len(unit)) if anchor is None else anchor.own_weight
    proceed = alpha * (1 - own_weight.double())
    proceed, restart = proceed.to(values.dtype)[:, None], (1 - proceed).to(values.dtype)[:, None]
    states, products = [values], []
    for _ in range(steps):
        products.append(graph.multiply(states[-1]))
        states.append(proceed * products[-1] + restart * values)

    total = torch.zeros_like(gradient)
    rho, by_proceed = (gradient.new_zeros(len(gradient)) for _ in range(2))
    left: list[Tensor] = []
    for product in reversed(products):
        total += restart * gradient
        left.append(proceed * gradient)
        rho += (left[-1] * product).sum(-1)
        by_proceed += (gradient * (product - values)).sum(-1)
        gradient = graph.multiply_transposed(left[-1])
    offset = -rho
    by_logit = gradient.new_zeros(())  # dL / d(s0 / tau)
    if anchor is not None:
        by_log_sum = by_proceed * alpha * own_weight * (1 - own_weight)
        by_logit = -by_log_sum.sum()
        offset += by_log_sum
        if anchor.chosen is not None:
            offset[anchor.chosen] += by_logit
    scale = cosine_scale(temperature)
    left_all, right_all = torch.cat(left, -1), torch.cat(states[-2::-1], -1)
    by_unit = graph.multiply_pairs(left_all, right_all, offset) * scale
    by_temperature = -scale / 2 * (unit.double() * by_unit.double()).sum()
    if anchor is not None and anchor.anchor is not None:
        by_temperature -= by_logit.double() * anchor.anchor * scale**2
    return Gradients(by_unit, gradient + total, by_temperature)


def through_length(embeddings: Tensor, unit: Tensor, by_unit: Tensor) -> Tensor:
    """Pass a gradient with respect to ``q = e / max(||e||, 1e-12)`` on to e.

    Args:
        embeddings: e, [n, D].
        unit: q, [n, D].
        by_unit: [n, D].

    Returns:
        [n, D]; 0 where the length of e is at most 1e-12, since e has no direction there.
    """
    peak = embeddings.abs().amax(-1, keepdim=True) if embeddings.shape[-1] else embeddings.new_zeros(1, 1)
    scaled_length = torch.linalg.vector_norm(embeddings / peak.where(peak > 0, 1), dim=-1, keepdim=True)
    tangent = by_unit - unit * (unit * by_unit).sum(-1, keepdim=True)
    return torch.where(peak * scaled_length > 1e-12, tangent / scaled_length / peak, 0)
