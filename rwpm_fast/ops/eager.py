"""The exact walk in plain torch, a slab of rows at a time: any device, any torch, no compiled code.

It is the fallback where no kernel can run. Memory is O(N (D + C)) plus one slab of the transition matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..products import exact_products
from ..reference import valid_pixels
from .anchor import iterate, own_weights
from .gradient import Gradients, anchor_gradient, through_length, unit_gradients
from .settings import WalkSettings
from .streamed_graph import StreamedGraph, unit_rows


@exact_products
def walk(
    embeddings: Tensor,
    values: Tensor | None,
    mask: Tensor | None,
    settings: WalkSettings,
    *,
    adjoint: bool = False,
) -> Tensor:
    """Compute the walk of :func:`rwpm_fast.reference.walk` without holding S. Not differentiable: the operator is.

    Args:
        embeddings: [N, D] or [B, N, D], checked.
        values: [..., N, C]; the embeddings when None.
        mask: [..., N] bool, True = valid; all when None.
        settings: the tolerance is not used.
        adjoint: walk by the transpose of S.

    Returns:
        Walked values [..., N, C], contiguous, in the values' dtype; float16 and bfloat16 are computed in float32.
    """
    values = embeddings if values is None else values
    if embeddings.dim() == 3:
        result = values.new_empty(values.shape)
        for b in range(len(embeddings)):
            result[b] = _walk_image(embeddings[b], values[b], None if mask is None else mask[b], settings, adjoint)
        return result
    return _walk_image(embeddings, values, mask, settings, adjoint)


def _walk_image(
    embeddings: Tensor, values: Tensor, mask: Tensor | None, settings: WalkSettings, adjoint: bool
) -> Tensor:
    result = values.new_empty(values.shape).copy_(values)
    # A gradient that is not finite must stay visible: only values of a forward walk are checked.
    valid = valid_pixels(embeddings, None if adjoint else values, mask).nonzero().squeeze(-1)
    if settings.steps == 0 or len(valid) < 2 or values.shape[-1] == 0:
        return result
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, values.dtype), torch.float32)
    graph = StreamedGraph(unit_rows(embeddings[valid].to(dtype)), settings.temperature)
    own_weight = own_weights(graph.log_sum(), **settings.anchor_kwargs())
    walked = iterate(
        graph.multiply_transposed if adjoint else graph.multiply,
        values[valid].to(dtype),
        alpha=settings.alpha,
        steps=settings.steps,
        own_weight=own_weight,
        adjoint=adjoint,
    )
    result[valid] = walked.to(values.dtype)
    return result


@exact_products
def gradients(
    gradient: Tensor, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
) -> Gradients:
    """Compute the gradients of :func:`walk`, in the same memory and ``steps`` times that of the values.

    Args:
        gradient: [..., N, C], of the result.
        embeddings: [N, D] or [B, N, D], checked.
        values: [..., N, C]; the embeddings when None.
        mask: [..., N] bool, True = valid; all when None.
        settings: the tolerance is not used.
    """
    values = embeddings if values is None else values
    if embeddings.dim() == 2:
        return _image_gradients(gradient, embeddings, values, mask, settings)
    result = Gradients(torch.zeros_like(embeddings), gradient.clone(), embeddings.new_zeros((), dtype=torch.float64))
    for b in range(len(embeddings)):
        image = _image_gradients(gradient[b], embeddings[b], values[b], None if mask is None else mask[b], settings)
        result.embeddings[b], result.values[b] = image.embeddings, image.values
        result.temperature.add_(image.temperature)
    return result


def _image_gradients(
    gradient: Tensor, embeddings: Tensor, values: Tensor, mask: Tensor | None, settings: WalkSettings
) -> Gradients:
    result = Gradients(
        embeddings.new_zeros(embeddings.shape),
        gradient.new_empty(gradient.shape).copy_(gradient),
        embeddings.new_zeros((), dtype=torch.float64),
    )
    valid = valid_pixels(embeddings, values, mask).nonzero().squeeze(-1)
    if settings.steps == 0 or len(valid) < 2 or values.shape[-1] == 0:
        return result
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, values.dtype), torch.float32)
    e = embeddings[valid].to(dtype)
    unit = unit_rows(e)
    graph = StreamedGraph(unit, settings.temperature)
    log_sum, anchor = graph.log_sum(), settings.anchor_kwargs()
    got = unit_gradients(
        graph,
        unit,
        values[valid].to(dtype),
        gradient[valid].to(dtype),
        alpha=settings.alpha,
        steps=settings.steps,
        temperature=settings.temperature,
        anchor=anchor_gradient(log_sum, own_weights(log_sum, **anchor), **anchor),
    )
    result.embeddings[valid] = through_length(e, unit, got.embeddings).to(embeddings.dtype)
    result.values[valid] = got.values.to(values.dtype)
    return result._replace(temperature=got.temperature.to(torch.float64))
