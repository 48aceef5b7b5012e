"""The sparse matrix on the CPU: ``torch.ops.rwpm.transition`` builds it, ``transition_walk`` walks it.

Both exist in compiled code only (``csrc/bindings/torch_transition.cpp``); without the library
:mod:`rwpm_fast.ops.graph` streams. Here are their fake kernels and the gradient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import library
from .gradient import Gradients
from .settings import DEFAULTS, check_graph_settings, check_walk_settings

if TYPE_CHECKING:
    from .backends import Matrix

GROUP_ROWS = 4  # of the matrix, which share their columns


class Hints(NamedTuple):
    """What a matrix tells about that of a similar graph, such as the next frame's: where rows set their thresholds.

    Attributes:
        shape: N and D of the embeddings, which those of the other graph must have too.
        numbers: float32, as ``torch.ops.rwpm.transition.in_sequence`` returns them.
    """

    shape: tuple[int, int]
    numbers: Tensor


class GroupedMatrix:
    """S as groups of four rows that share their columns: the result of ``torch.ops.rwpm.transition``.

    Attributes:
        dropped_mass: [n] float32, share of its mass that a row has elsewhere than the exact one, at most: what it
            dropped and what rounding moved.
        log_sum: [n] float32, logarithm of the sum of exp(cosine / temperature) over what a row keeps.
        hints: what it tells about the matrix of a similar graph; None where none were asked for.
    """

    def __init__(
        self,
        order: Tensor,
        group_start: Tensor,
        column: Tensor,
        code: Tensor,
        row_scale: Tensor,
        dropped: Tensor,
        log_sum: Tensor,
    ):
        """
        Args:
            order: [n] int64, the pixel of each row of the matrix.
            group_start: [groups + 1, 4] int64, of each group the first entry, which has a code for each of the four
                rows; the first entry with codes for the first two rows; that with codes for the last two; the first
                code.
            column: [entries] int32.
            code: [1 or 2, codes] uint16, by entries. A weight is ((code[0] + code[1] / 2^16) * scale of its row)^2.
            row_scale: [n] float32.
            dropped: [n] float32, dropped mass of each row of the matrix.
            log_sum: [n] float32, log2 of the sum of each row of the matrix.
        """
        self.hints: Hints | None = None
        self._parts = order, group_start, column, code, row_scale
        self._log_sum = log_sum
        self.dropped_mass = torch.empty_like(dropped).index_copy_(0, order, dropped)
        self.log_sum = torch.empty_like(log_sum).index_copy_(0, order, log_sum) * math.log(2)

    def walk(self, values: Tensor, *, alpha: float, steps: int, own_weight: Tensor | None = None) -> Tensor:
        """Walk values [n, C]; see :class:`rwpm_fast.ops.backends.Matrix`."""
        if own_weight is not None:
            own_weight = own_weight.float()[self._parts[0]]
        return torch.ops.rwpm.transition_walk.default(*self._parts, values, own_weight, alpha=alpha, steps=steps)

    def gradients(self, gradient: Tensor, embeddings: Tensor, values: Tensor, **settings: Any) -> Gradients:
        """Differentiate :meth:`walk`; see :class:`rwpm_fast.ops.backends.Matrix`."""
        operator = torch.ops.rwpm.transition_walk_backward.default
        return Gradients(*operator(gradient, *self._parts, values, embeddings, self._log_sum, **settings))

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and weight of every pair, [kept] each."""
        order, group_start, column, code, row_scale = self._parts
        bounds = torch.cat([group_start[:-1, :3], group_start[1:, :1]], dim=1)  # [groups, 4]
        # Three runs of entries to a group: with codes for all four rows, for the first two, for the last two.
        run = torch.arange(bounds.numel() - len(bounds)).repeat_interleave(bounds.diff(dim=1).flatten())  # [entries]
        codes = torch.tensor([GROUP_ROWS, GROUP_ROWS // 2, GROUP_ROWS // 2])[run % 3]
        entry = torch.arange(len(column)).repeat_interleave(codes)  # [codes]
        first_row = run // 3 * GROUP_ROWS + torch.tensor([0, 0, GROUP_ROWS // 2])[run % 3]
        row = first_row[entry] + torch.arange(len(entry)) - (codes.cumsum(0) - codes)[entry]
        root = code[0].float()
        if len(code) == 2:
            root += code[1].float() / 2**16
        kept = root != 0
        row, entry = row[kept], entry[kept]
        root = root[kept] * row_scale[row]
        return order[row], order[column[entry].long()], root * root


def build_matrix(
    embeddings: Tensor,
    valid: Tensor,
    *,
    temperature: float,
    tolerance: float,
    width: int,
    previous: Matrix | None = None,
) -> GroupedMatrix | None:
    """Build the sparse matrix of a graph.

    Args:
        embeddings: [N, D].
        valid: [N] bool, the pixels of the graph.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in (0, 1).
        width: pixels in a row of the map; 0: guessed.
        previous: of a similar graph, whose hints save time; the matrix then has hints itself. None: neither.

    Returns:
        The matrix; None if the graph is too dense for one.
    """
    settings: dict[str, Any] = {"temperature": temperature, "tolerance": tolerance, "width": width}
    hints = None
    if previous is None:
        order, *parts = torch.ops.rwpm.transition.default(embeddings, valid, **settings)
    else:
        shape = (embeddings.shape[0], embeddings.shape[1])
        known = getattr(previous, "hints", None)  # a GPU's matrix has none
        given = known.numbers if known is not None and known.shape == shape else None
        operator = torch.ops.rwpm.transition.in_sequence
        order, *parts, numbers = operator(embeddings, valid, hints=given, **settings)
        hints = Hints(shape, numbers)
    if len(order) == 0:
        return None
    among_valid = valid.cumsum(0) - 1
    matrix = GroupedMatrix(among_valid[order], *parts)
    matrix.hints = hints
    return matrix


def _transition_fake(embeddings, mask=None, *, temperature=DEFAULTS.temperature, tolerance=1e-4, width=0):
    check_graph_settings(temperature, tolerance)
    rows, groups, entries, planes, codes = (torch.library.get_ctx().new_dynamic_size() for _ in range(5))
    return (
        embeddings.new_empty((rows,), dtype=torch.int64),
        embeddings.new_empty((groups, 4), dtype=torch.int64),
        embeddings.new_empty((entries,), dtype=torch.int32),
        embeddings.new_empty((planes, codes), dtype=torch.uint16),
        embeddings.new_empty((rows,), dtype=torch.float32),
        embeddings.new_empty((rows,), dtype=torch.float32),
        embeddings.new_empty((rows,), dtype=torch.float32),
    )


def _in_sequence_fake(embeddings, mask=None, *, hints, temperature=DEFAULTS.temperature, tolerance=1e-4, width=0):
    parts = _transition_fake(embeddings, mask, temperature=temperature, tolerance=tolerance, width=width)
    return *parts, embeddings.new_empty((torch.library.get_ctx().new_dynamic_size(),), dtype=torch.float32)


def _walk_fake(
    order,
    group_start,
    column,
    code,
    row_scale,
    values,
    own_weight=None,
    *,
    alpha=DEFAULTS.alpha,
    steps=DEFAULTS.steps,
    adjoint=False,
):
    check_walk_settings(alpha, steps)
    return values.new_empty(values.shape)


def _walk_backward_fake(gradient, order, group_start, column, code, row_scale, values, embeddings, log_sum, **settings):
    return (
        embeddings.new_empty(embeddings.shape),
        values.new_empty(values.shape),
        embeddings.new_empty((), dtype=torch.float64),
    )


def _keep_for_backward(ctx, inputs, keyword_only_inputs, output):
    *matrix, _, own_weight = inputs
    if ctx.needs_input_grad[4] or ctx.needs_input_grad[6]:
        raise NotImplementedError("row_scale: no gradient with respect to the matrix, only to the values")
    ctx.save_for_backward(*matrix, own_weight)
    ctx.settings = keyword_only_inputs


def _backward(ctx, gradient):
    settings = ctx.settings | {"adjoint": not ctx.settings["adjoint"]}
    *matrix, own_weight = ctx.saved_tensors
    walked = torch.ops.rwpm.transition_walk.default(*matrix, gradient, own_weight, **settings)
    return None, None, None, None, None, walked, None


# Another copy of the package in this process may have registered them already.
if library.unsupported_reason() is None and not torch._C._dispatch_has_kernel_for_dispatch_key(
    "rwpm::transition_walk", "Meta"
):
    _LIBRARY = torch.library.Library("rwpm", "FRAGMENT")
    torch.library.register_fake("rwpm::transition", _transition_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::transition.in_sequence", _in_sequence_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::transition_walk", _walk_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::transition_walk_backward", _walk_backward_fake, lib=_LIBRARY)
    torch.library.register_autograd("rwpm::transition_walk", _backward, setup_context=_keep_for_backward, lib=_LIBRARY)
