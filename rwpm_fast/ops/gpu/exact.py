"""Launches of the exact walk: sums of the rows, and a transition that computes every weight again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kernels import exact as kernels
from .kernels.tiles import BLOCK, channel_tiles
from .launch import launch, shared_memory
from .pack import HalfPair, PackedGraph
from .tuning import EXACT_TILES, Tile, exact_tile


class RowSums(NamedTuple):
    """What normalizes a row.

    Attributes:
        row_max: [B, padded], largest logit; inf in invalid rows and where there is none, so that all weights become 0.
        inv_row_sum: [B, padded], one over the sum of the weights exp2(logit - row_max); 0 where there is none.
    """

    row_max: Tensor
    inv_row_sum: Tensor

    def image(self, index: int) -> RowSums:
        """Those of one image, a batch of one."""
        return RowSums(self.row_max[index : index + 1], self.inv_row_sum[index : index + 1])


def row_sums(
    graph: PackedGraph,
    streaming_blocks: Tensor | None,
    *,
    window: int | None = None,
    tiles: tuple[Tile, ...] = EXACT_TILES,
) -> RowSums:
    """Compute the maxima and sums of rows.

    Args:
        graph: packed embeddings.
        streaming_blocks: [B, padded / 128] int8, blocks of rows to do; None: all.
        window: sum only over a row's tile and so many pixels before and after it in storage order, by the keys' high
            halves; a multiple of the tiles' columns. None: over all pixels.
        tiles: to choose from, best first.
    """
    graph = graph if window is None else graph.high_only()
    sums = RowSums(torch.empty_like(graph.inv_norm), torch.empty_like(graph.inv_norm))
    tile = exact_tile(sum(graph.channels) * graph.keys.halves, 0, shared_memory(graph.valid.device), tiles)
    launch(
        kernels.row_sums,
        (graph.padded // tile.rows, graph.batch),
        *(*graph.pointers(), *sums, graph.valid if streaming_blocks is None else streaming_blocks),
        *(graph.scale, graph.padded, graph.padded if window is None else window),
        D0=graph.channels[0],
        D1=graph.channels[1],
        BM=tile.rows,
        BN=tile.columns,
        BLOCK=BLOCK,
        ONLY_STREAMING_BLOCKS=streaming_blocks is not None,
        KEYS_HAVE_LOW=graph.keys.has_low,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return sums


def exact_step(
    graph: PackedGraph, sums: RowSums, streaming_blocks: Tensor | None, start: HalfPair, source: HalfPair,
    target: HalfPair, alpha: Tensor, adjoint: bool, *, tiles: tuple[Tile, ...] = EXACT_TILES,
) -> None:  # fmt: skip
    """Make one exact transition, ``target = alpha_i S source + (1 - alpha_i) start``.

    Args:
        graph: packed embeddings.
        sums: of the graph's rows.
        streaming_blocks: [B, padded / 128] int8, blocks of rows that stream; None: all.
        start: [B, padded, C].
        source: [B, padded, C].
        target: [B, padded, C], written; blocks that do not stream are left as they are, but for the transpose, where
            every block is the sum over the rows of S that stream.
        alpha: [B, padded], in [0, 1].
        adjoint: whether to take the transpose of S.
        tiles: to choose from, best first.
    """
    memory = shared_memory(graph.valid.device)
    width = source.high.shape[2]
    for channels in channel_tiles(width, source.halves):
        value_channels = (channels.main + channels.tail) * source.halves
        tile = exact_tile(sum(graph.channels) * graph.keys.halves, value_channels, memory, tiles)
        launch(
            kernels.step,
            (graph.padded // tile.rows, channels.tiles, graph.batch),
            *(*graph.keys.pointers(), graph.inv_norm, *sums, alpha),
            graph.valid if streaming_blocks is None else streaming_blocks,
            *(*start.pointers(), *source.pointers(), *target.pointers()),
            *(graph.scale, graph.padded, width, channels.first),
            D0=graph.channels[0],
            D1=graph.channels[1],
            C0=channels.main,
            C1=channels.tail,
            BM=tile.rows,
            BN=tile.columns,
            BLOCK=BLOCK,
            KEYS_HAVE_LOW=graph.keys.has_low,
            VALUES_HAVE_LOW=source.has_low,
            ONLY_STREAMING_BLOCKS=streaming_blocks is not None,
            ADJOINT=adjoint,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
