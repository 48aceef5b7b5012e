"""The exact walk's launches: sums of the rows, and a transition that makes every weight anew."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kernels import exact as streaming
from .kernels.tiles import BLOCK, panels
from .launch import launch, shared_memory
from .pack import Graph, Split
from .tuning import streaming_tile


class RowSums(NamedTuple):
    """Of every row the largest logit and one over the sum of the weights beside it, [B, padded]."""

    largest: Tensor
    inverse: Tensor


def row_sums(graph: Graph, streams: Tensor | None, *, reach: int | None = None) -> RowSums:
    """The sums of the rows that stream, of all if None.

    With a reach, a multiple of BLOCK, they are over no more than that many pixels before and after a row's tile, and
    made of the keys' first parts.
    """
    keys = graph.keys if reach is None else Split(graph.keys.high, None)
    sums = RowSums(torch.empty_like(graph.inverse), torch.empty_like(graph.inverse))
    tile = streaming_tile(sum(graph.channels) * keys.parts, 0, shared_memory(graph.valid.device))
    launch(
        streaming.row_sums,
        (graph.padded // tile.rows, graph.batch),
        *(*keys.pointers(), graph.inverse, graph.valid, graph.valid if streams is None else streams, *sums),
        *(graph.scale, graph.padded, graph.padded if reach is None else reach),
        D0=graph.channels[0],
        D1=graph.channels[1],
        BM=tile.rows,
        BN=tile.columns,
        BLOCK=BLOCK,
        CHOSEN=streams is not None,
        SPLIT_KEYS=keys.split,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return sums


def exact_step(
    graph: Graph, sums: RowSums, streams: Tensor | None, start: Split, source: Split, target: Split,
    alpha: float, adjoint: bool,
) -> None:  # fmt: skip
    """One exact transition of the blocks that stream, of all if None."""
    width = source.high.shape[2]
    for panel in panels(width, source.parts):
        carried = (panel.main + panel.tail) * source.parts
        tile = streaming_tile(sum(graph.channels) * graph.keys.parts, carried, shared_memory(graph.valid.device))
        launch(
            streaming.step,
            (graph.padded // tile.rows, panel.count, graph.batch),
            *(*graph.keys.pointers(), graph.inverse, *sums, graph.valid if streams is None else streams),
            *(*start.pointers(), *source.pointers(), *target.pointers()),
            *(graph.scale, alpha, graph.padded, width, panel.first),
            D0=graph.channels[0],
            D1=graph.channels[1],
            C0=panel.main,
            C1=panel.tail,
            BM=tile.rows,
            BN=tile.columns,
            BLOCK=BLOCK,
            SPLIT_KEYS=graph.keys.split,
            SPLIT_VALUES=source.split,
            CHOSEN=streams is not None,
            ADJOINT=adjoint,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
