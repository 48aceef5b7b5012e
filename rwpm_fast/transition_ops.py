"""``torch.ops.rwpm.transition`` and ``transition_walk``: fake kernels and the gradient.

Both are compiled only (``csrc/ops_transition.cpp``); where the library cannot serve, :mod:`rwpm_fast.transitions`
streams.
"""

from __future__ import annotations

import torch

from .checks import check_graph_settings, check_walk_settings


def available() -> bool:
    """Whether the operators are there."""
    return hasattr(torch.ops.rwpm, "transition_walk")


def _transition_fake(embeddings, mask=None, *, temperature=0.01, tolerance=1e-4, width=0):
    check_graph_settings(temperature, tolerance)
    rows, groups, entries = (torch.library.get_ctx().new_dynamic_size() for _ in range(3))
    return (
        embeddings.new_empty((rows,), dtype=torch.int64),
        embeddings.new_empty((groups,), dtype=torch.int64),
        embeddings.new_empty((entries,), dtype=torch.int32),
        embeddings.new_empty((entries, 4), dtype=torch.float32),
        embeddings.new_empty((rows,), dtype=torch.float32),
    )


def _walk_fake(order, group_start, column, weight, values, *, alpha=0.99, steps=20, adjoint=False):
    check_walk_settings(alpha, steps)
    return values.new_empty(values.shape)


def _keep_for_backward(ctx, inputs, keyword_only_inputs, output) -> None:
    *matrix, _ = inputs
    if ctx.needs_input_grad[3]:
        raise NotImplementedError("weight: no gradient with respect to the matrix, only to the values")
    ctx.save_for_backward(*matrix)
    ctx.settings = keyword_only_inputs


def _backward(ctx, gradient):
    settings = ctx.settings | {"adjoint": not ctx.settings["adjoint"]}
    return None, None, None, None, torch.ops.rwpm.transition_walk.default(*ctx.saved_tensors, gradient, **settings)


# Another copy of the package in this process may have registered them already.
if available() and not torch._C._dispatch_has_kernel_for_dispatch_key("rwpm::transition_walk", "Meta"):
    _LIBRARY = torch.library.Library("rwpm", "FRAGMENT")
    torch.library.register_fake("rwpm::transition", _transition_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::transition_walk", _walk_fake, lib=_LIBRARY)
    torch.library.register_autograd("rwpm::transition_walk", _backward, setup_context=_keep_for_backward, lib=_LIBRARY)
