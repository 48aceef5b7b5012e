"""The neighbors of one pixel in a photo's graph: a row of the transition matrix S, on the map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..ops.settings import WalkSettings, cosine_scale
from .graphs import PhotoGraphs

SHOWN = 64


@dataclass(frozen=True)
class Neighborhood:
    """The strongest neighbors of a pixel of the embedding map.

    Attributes:
        own_weight: r, weight of the pixel's own value in each step of the anchored walk; 1 for a pixel that is no part
            of the graph.
        neighbors: row, column and weight of the others, the heaviest first; the weights of all others sum to 1.
        half: how many pixels hold half of the weight.
    """

    own_weight: float
    neighbors: list[tuple[int, int, float]]
    half: int


def neighborhood(graphs: PhotoGraphs, settings: WalkSettings, row: int, column: int) -> Neighborhood:
    """Compute a pixel's row of S from its cosines, which takes a millisecond where to write out S would take seconds.

    Differs from the graph that walks by the mass that its rows may drop.

    Args:
        graphs: of the photo; of a network that also reads the mirror image, the photo itself counts.
        settings: of the walk.
        row: of the pixel, on the map.
        column: of the pixel, on the map.
    """
    blocks = graphs.blocks(settings.parts)
    number, (rows, columns) = next(
        (number, (rows, columns))
        for number, (rows, columns) in enumerate(blocks)
        if rows.start <= row < rows.stop and columns.start <= column < columns.stop
    )
    embeddings = graphs.embeddings[0, :, rows, columns].flatten(1).mT  # [n, D]
    width = columns.stop - columns.start
    pixel = (row - rows.start) * width + column - columns.start
    valid = embeddings.isfinite().all(-1)
    if graphs.mask is not None:
        valid = valid & graphs.mask[0, rows, columns].flatten()
    if not valid[pixel] or valid.sum() < 2:
        return Neighborhood(1.0, [], 0)
    graph = graphs.get(settings)[number]
    own_weight = graph.own_weights(anchor=settings.anchor, anchor_share=settings.anchor_share)[pixel]

    cosines = F.normalize(embeddings, dim=1) @ F.normalize(embeddings[pixel], dim=0)
    valid[pixel] = False  # a pixel is no neighbor of itself
    weights = (cosines * cosine_scale(settings.temperature)).masked_fill(~valid, -torch.inf).softmax(0)
    heaviest = weights.sort(descending=True)
    half = int((heaviest.values.double().cumsum(0) < 0.5).sum()) + 1
    shown = zip(heaviest.indices[:SHOWN].tolist(), heaviest.values[:SHOWN].tolist(), strict=True)
    found = [(rows.start + k // width, columns.start + k % width, weight) for k, weight in shown if weight > 0]
    return Neighborhood(float(own_weight), found, half)
