"""The sparse matrix on the CPU: ``torch.ops.rwpm.transition`` builds it, ``transition_walk`` walks it.

Both exist in compiled code only (``csrc/bindings/torch_transition.cpp``); without the library
:mod:`rwpm_fast.ops.graph` streams. Here are their fake kernels and the gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import library
from .settings import DEFAULTS, check_graph_settings, check_walk_settings


class GroupedMatrix:
    """S as groups of four rows that share their columns: the result of ``torch.ops.rwpm.transition``.

    Attributes:
        dropped_mass: [n] float32, share of its mass that a row dropped, at most.
        log_sum: [n] float32, logarithm of the sum of exp(cosine / temperature) over what a row keeps.
    """

    def __init__(
        self, order: Tensor, group_start: Tensor, column: Tensor, weight: Tensor, dropped: Tensor, log_sum: Tensor
    ):
        """
        Args:
            order: [n] int64, the pixel of each row of the matrix.
            group_start: [groups + 1] int64, first entry of each group.
            column: [entries] int32.
            weight: [entries, 4] float32, of the four rows of a group.
            dropped: [n] float32, dropped mass of each row of the matrix.
            log_sum: [n] float32, log2 of the sum of each row of the matrix.
        """
        self._parts = order, group_start, column, weight
        self.dropped_mass = torch.empty_like(dropped).index_copy_(0, order, dropped)
        self.log_sum = torch.empty_like(log_sum).index_copy_(0, order, log_sum) * math.log(2)

    def walk(self, values: Tensor, *, alpha: float, steps: int, own_weight: Tensor | None = None) -> Tensor:
        """Walk values [n, C]; see :class:`rwpm_fast.ops.backends.Matrix`."""
        if own_weight is not None:
            own_weight = own_weight.float()[self._parts[0]]
        return torch.ops.rwpm.transition_walk.default(*self._parts, values, own_weight, alpha=alpha, steps=steps)

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and weight of every pair, [kept] each."""
        order, group_start, column, weight = self._parts
        group = torch.arange(len(group_start) - 1).repeat_interleave(group_start.diff())  # [entries]
        entry, row = weight.nonzero(as_tuple=True)
        return order[group[entry] * weight.shape[1] + row], order[column[entry].long()], weight[entry, row]


def build_matrix(
    embeddings: Tensor, valid: Tensor, *, temperature: float, tolerance: float, width: int
) -> GroupedMatrix | None:
    """Build the sparse matrix of a graph.

    Args:
        embeddings: [N, D].
        valid: [N] bool, the pixels of the graph.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in (0, 1).
        width: pixels in a row of the map; 0: guessed.

    Returns:
        The matrix; None if the graph is too dense for one.
    """
    order, group_start, column, weight, dropped, log_sum = torch.ops.rwpm.transition.default(
        embeddings, valid, temperature=temperature, tolerance=tolerance, width=width
    )
    if len(order) == 0:
        return None
    among_valid = valid.cumsum(0) - 1
    return GroupedMatrix(among_valid[order], group_start, column, weight, dropped, log_sum)


def _transition_fake(embeddings, mask=None, *, temperature=DEFAULTS.temperature, tolerance=1e-4, width=0):
    check_graph_settings(temperature, tolerance)
    rows, groups, entries = (torch.library.get_ctx().new_dynamic_size() for _ in range(3))
    return (
        embeddings.new_empty((rows,), dtype=torch.int64),
        embeddings.new_empty((groups,), dtype=torch.int64),
        embeddings.new_empty((entries,), dtype=torch.int32),
        embeddings.new_empty((entries, 4), dtype=torch.float32),
        embeddings.new_empty((rows,), dtype=torch.float32),
        embeddings.new_empty((rows,), dtype=torch.float32),
    )


def _walk_fake(
    order,
    group_start,
    column,
    weight,
    values,
    own_weight=None,
    *,
    alpha=DEFAULTS.alpha,
    steps=DEFAULTS.steps,
    adjoint=False,
):
    check_walk_settings(alpha, steps)
    return values.new_empty(values.shape)


def _keep_for_backward(ctx, inputs, keyword_only_inputs, output):
    *matrix, _, own_weight = inputs
    if ctx.needs_input_grad[3] or ctx.needs_input_grad[5]:
        raise NotImplementedError("weight: no gradient with respect to the matrix, only to the values")
    ctx.save_for_backward(*matrix, own_weight)
    ctx.settings = keyword_only_inputs


def _backward(ctx, gradient):
    settings = ctx.settings | {"adjoint": not ctx.settings["adjoint"]}
    *matrix, own_weight = ctx.saved_tensors
    walked = torch.ops.rwpm.transition_walk.default(*matrix, gradient, own_weight, **settings)
    return None, None, None, None, walked, None


# Another copy of the package in this process may have registered them already.
if library.unsupported_reason() is None and not torch._C._dispatch_has_kernel_for_dispatch_key(
    "rwpm::transition_walk", "Meta"
):
    _LIBRARY = torch.library.Library("rwpm", "FRAGMENT")
    torch.library.register_fake("rwpm::transition", _transition_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::transition_walk", _walk_fake, lib=_LIBRARY)
    torch.library.register_autograd("rwpm::transition_walk", _backward, setup_context=_keep_for_backward, lib=_LIBRARY)
