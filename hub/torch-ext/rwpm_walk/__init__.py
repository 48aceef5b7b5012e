"""Random walks on pixel manifolds: ``walk`` of the package rwpm-fast, compiled for the CPU.

Random Walk on Pixel Manifolds for Anomaly Segmentation of Complex Driving Scenes (Zeng & Tomite, ECCV 2024), equation
S.5, exact or on a sparse graph. Everything else, GPUs too, is in the package.
"""

from typing import Optional

import torch

from ._ops import add_op_namespace_prefix, ops

__all__ = ["walk"]


def walk(
    embeddings: torch.Tensor,
    values: Optional[torch.Tensor] = None,  # noqa: UP045 - kernels support Python 3.9
    *,
    mask: Optional[torch.Tensor] = None,  # noqa: UP045
    alpha: float = 0.99,
    steps: int = 20,
    temperature: float = 0.01,
    tolerance: float = 1e-4,
    anchor: float = -1.0,
    anchor_share: float = 0.0,
) -> torch.Tensor:
    """Walk values with restart on the graph of pixel similarities: ``m <- alpha S m + (1 - alpha) v``, ``steps`` times
    from ``m = v``, with S the softmax over cosines of the embeddings without self-affinity.

    Example::

        walked = walk(torch.randn(3600, 160), torch.randn(3600, 19))

    Args:
        embeddings: [N, D] or [B, N, D] on the CPU, float32, float64, float16 or bfloat16, any strides.
        values: [..., N, C]; the embeddings themselves when None.
        mask: [..., N] bool, True = valid; all when None.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature > 0.
        tolerance: mass that a row of S may drop, in [0, 1); 0: the exact walk. No value is off by more than
            ``2 * steps * tolerance * max|v|``. The default of the operator itself is 0.
        anchor: cosine of a pixel with its own value; -1 or lower: no anchor, the published walk.
        anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.

    Returns:
        Walked values [..., N, C], in the values' dtype. Differentiable, once, with respect to embeddings and values.

    Raises:
        RuntimeError: a dtype, shape or setting that does not fit; the message names it.
    """
    settings = {"alpha": alpha, "steps": steps, "temperature": temperature, "tolerance": tolerance}
    settings.update(anchor=anchor, anchor_share=anchor_share)
    return ops.walk.default(embeddings, values, mask, **settings)


@torch.library.register_fake(add_op_namespace_prefix("walk"))
def _walk_fake(embeddings, values=None, mask=None, **settings):
    values = embeddings if values is None else values
    return values.new_empty(values.shape)


@torch.library.register_fake(add_op_namespace_prefix("walk_adjoint"))
def _walk_adjoint_fake(gradient, embeddings, mask=None, **settings):
    return gradient.new_empty(gradient.shape)


@torch.library.register_fake(add_op_namespace_prefix("walk_backward"))
def _walk_backward_fake(gradient, embeddings, values=None, mask=None, **settings):
    by_embeddings = embeddings.new_empty(embeddings.shape)
    return by_embeddings, gradient.new_empty(gradient.shape), embeddings.new_empty((), dtype=torch.float64)


def _keep_for_backward(ctx, inputs, keyword_only_inputs, output):
    embeddings, values, mask = inputs
    ctx.settings = keyword_only_inputs
    ctx.values_only = not ctx.needs_input_grad[0]
    if ctx.values_only:
        # A pixel that is out of the graph because of its value must stay out of it in the backward pass.
        valid = embeddings.isfinite().all(-1) & values.isfinite().all(-1)
        ctx.save_for_backward(embeddings, valid if mask is None else valid & mask)
    else:
        ctx.save_for_backward(*inputs)


def _backward(ctx, gradient):
    if ctx.values_only:
        return None, ops.walk_adjoint.default(gradient, *ctx.saved_tensors, **ctx.settings), None
    _, values, _ = ctx.saved_tensors
    by_embeddings, by_values, _ = ops.walk_backward.default(gradient, *ctx.saved_tensors, **ctx.settings)
    return (by_embeddings + by_values, None, None) if values is None else (by_embeddings, by_values, None)


torch.library.register_autograd(add_op_namespace_prefix("walk"), _backward, setup_context=_keep_for_backward)
