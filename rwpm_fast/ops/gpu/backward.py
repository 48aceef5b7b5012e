"""The gradients of the walk by Triton kernels: what is launched, in which order. Nothing waits for the device.

They are those of the operator that was run: with a tolerance of the pairs that it keeps, found as it finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..anchor import iterate, own_weights
from ..gradient import Gradients, anchor_gradient, through_length, unit_gradients
from ..streamed_graph import unit_rows
from .anchor import log_sums
from .exact import row_sums
from .gradient import TransitionProducts
from .pack import PackedGraph, pack_graph, pack_state
from .screen import DEFAULT_CONFIG, ScreenConfig
from .sparse import build_pairs
from .transpose import TransposablePairs, sort_slots


def walk_gradients(
    gradient: Tensor,
    embeddings: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    tolerance: float = 0.0,
    anchor: float = -1.0,
    anchor_share: float = 0.0,
    config: ScreenConfig = DEFAULT_CONFIG,
) -> Gradients:
    """Differentiate a walk of batches of checked tensors; see :func:`rwpm_fast.ops.gpu.walk.walk_batch`.

    Args:
        gradient: of the result, [B, N, C].
        embeddings: [B, N, D].
        values: [B, N, C].
        mask: [B, N], or None.
        alpha: probability to go on, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: of the softmax, > 0.
        tolerance: share of its mass that a row may drop, in [0, 1).
        anchor: cosine of a pixel with its own value; -1 or lower: no anchor.
        anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.
        config: how pairs are screened and selected.
    """
    result = Gradients(
        embeddings.new_zeros(embeddings.shape),
        gradient.clone(memory_format=torch.contiguous_format),
        embeddings.new_zeros((), dtype=torch.float64),
    )
    if steps == 0 or values.numel() == 0 or embeddings.shape[1] < 2:
        return result
    graph = pack_graph(embeddings, mask, temperature)
    pack_state(values, graph, check=True)  # pixels whose values are not finite leave the graph
    settings: dict[str, Any] = {"alpha": alpha, "steps": steps, "temperature": temperature}
    settings |= {"anchor": anchor, "anchor_share": anchor_share}
    for index, (products, inside, log_sum, e) in enumerate(_images(graph, embeddings, tolerance, config)):
        v, g = (torch.where(inside, t[index].float(), 0) for t in (values, gradient))
        got = image_gradients(products, log_sum, g, e, v, **settings)
        result.embeddings[index] = got.embeddings
        result.values[index] = torch.where(inside, got.values.to(values.dtype), gradient[index])
        result.temperature.add_(got.temperature)
    return result


def image_gradients(
    products: TransitionProducts,
    log_sum: Tensor,
    gradient: Tensor,
    embeddings: Tensor,
    values: Tensor,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    **anchor: float,
) -> Gradients:
    """Differentiate the walk of one image, in float32.

    Args:
        products: with its S.
        log_sum: [n], of what its rows keep.
        gradient: of the result, [n, C] float32; 0 outside the graph.
        embeddings: [n, D] float32; 0 outside the graph.
        values: [n, C] float32; 0 outside the graph.
        alpha: probability to go on, in [0, 1].
        steps: number of transitions, > 0.
        temperature: of the softmax, > 0.
        anchor: ``anchor`` and ``anchor_share``; see :func:`walk_gradients`.
    """
    by_anchor = {"temperature": temperature, **anchor}
    got = unit_gradients(
        products,
        products.unit,
        values,
        gradient,
        alpha=alpha,
        steps=steps,
        temperature=temperature,
        anchor=anchor_gradient(log_sum, own_weights(log_sum, **by_anchor), **by_anchor),
    )
    return got._replace(embeddings=through_length(embeddings, products.unit, got.embeddings))


def walk_adjoint(
    gradient: Tensor,
    embeddings: Tensor,
    mask: Tensor | None,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    tolerance: float,
    anchor: float = -1.0,
    anchor_share: float = 0.0,
    config: ScreenConfig = DEFAULT_CONFIG,
) -> Tensor:
    """Differentiate a walk with respect to the values alone: [B, N, C]. See :func:`walk_gradients`."""
    result = gradient.clone(memory_format=torch.contiguous_format)
    if steps == 0 or gradient.numel() == 0 or embeddings.shape[1] < 2:
        return result
    graph = pack_graph(embeddings, mask, temperature)
    for index, (products, inside, log_sum, _) in enumerate(_images(graph, embeddings, tolerance, config)):
        walked = iterate(
            products.multiply_transposed,
            torch.where(inside, gradient[index].float(), 0),
            alpha=alpha,
            steps=steps,
            own_weight=own_weights(log_sum, temperature=temperature, anchor=anchor, anchor_share=anchor_share),
            adjoint=True,
        )
        result[index] = torch.where(inside, walked.to(result.dtype), gradient[index])
    return result


def _images(
    graph: PackedGraph, embeddings: Tensor, tolerance: float, config: ScreenConfig
) -> Iterator[tuple[TransitionProducts, Tensor, Tensor, Tensor]]:
    """Yield of each image: products with S, the pixels [N, 1] that walk, logarithms of the sums of rows [N], and its
    embeddings [N, D] float32, 0 outside the graph."""
    pairs = lists = None
    if tolerance > 0:
        # In the lists of the batch, as the walk does: which rows find room may depend on the other images.
        pairs = build_pairs(graph, tolerance, has_low=True, config=config)
        lists = TransposablePairs(pairs, sort_slots(pairs))
    sums = row_sums(graph, None if pairs is None else pairs.streaming_blocks)
    log_sum = log_sums(sums, pairs)[:, : graph.pixels]
    for index in range(graph.batch):
        valid = graph.valid[index, : graph.pixels, None] != 0
        e = torch.where(valid, embeddings[index].float(), 0)
        own = None if lists is None else lists.image(index)
        products = TransitionProducts(graph.image(index), sums.image(index), unit_rows(e), own)
        yield products, valid & (valid.sum() > 1), log_sum[index], e
