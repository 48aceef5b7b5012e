"""The gradients of the walk by Triton kernels: what is launched, in which order. Nothing waits for the device.

They are those of the operator that was run: with a tolerance of the pairs that it keeps, found as it finds them.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    by_anchor = {"temperature": temperature, "anchor": anchor, "anchor_share": anchor_share}
    for index, (products, inside, log_sum, e, unit) in enumerate(_images(graph, embeddings, tolerance, config)):
        own_weight = own_weights(log_sum, **by_anchor)
        got = unit_gradients(
            products,
            unit,
            torch.where(inside, values[index].float(), 0),
            torch.where(inside, gradient[index].float(), 0),
            alpha=alpha,
            steps=steps,
            temperature=temperature,
            anchor=anchor_gradient(log_sum, own_weight, **by_anchor),
        )
        result.embeddings[index] = through_length(e, unit, got.embeddings)
        result.values[index] = torch.where(inside, got.values.to(values.dtype), gradient[index])
        result.temperature.add_(got.temperature)
    return result


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
    for index, (products, inside, log_sum, *_) in enumerate(_images(graph, embeddings, tolerance, config)):
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
) -> Iterator[tuple[TransitionProducts, Tensor, Tensor, Tensor, Tensor]]:
    """Yield of each image: products with S, the pixels [N, 1] that walk, logarithms of the sums of rows [N], and its
    embeddings as they are and of unit length, [N, D] float32, 0 outside the graph."""
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
        unit = unit_rows(e)
        own = None if lists is None else lists.image(index)
        products = TransitionProducts(graph.image(index), sums.image(index), unit, own)
        yield products, valid & (valid.sum() > 1), log_sum[index], e, unit
