"""Products with S of one packed graph, for gradients: of listed pairs, of rows that stream, or of both.

H is as in :class:`rwpm_fast.ops.gradient.DifferentiableGraph`. All is in two halves, whatever the dtype of the inputs:
in H numbers that are nearly the same cancel, and what one half rounds would be a large part of what is left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from .exact import RowSums, exact_step
from .kernels import gradient as kernels
from .kernels.tiles import BLOCK, MIN_SIDE, channel_tiles, power_of_two
from .launch import launch, shared_memory
from .pack import HalfPair, PackedGraph, pack_state
from .sparse import GROUP, WEIGHT_BLOCK, Pairs, sparse_step
from .transpose import TransposablePairs, transposed_product
from .tuning import PAIR_TILES, Tile, pair_tile
from .walk import take_steps

# Channels of a chunk of the long rows, and the factor by which they are stored larger: they are 1 at most.
DEPTH, LONG_SCALE = 64, 2.0**15
_TINY = torch.finfo(torch.float32).tiny


class PairFactors(NamedTuple):
    """The vectors that H is made of.

    Attributes:
        left: [1, padded, depth], times LONG_SCALE.
        right: [1, padded, depth], times LONG_SCALE.
        offset: [1, padded].
        size: [], by which H is smaller than it should be, so that no ``left_i . right_j + offset_i`` exceeds 1.
    """

    left: HalfPair
    right: HalfPair
    offset: Tensor
    size: Tensor

    @property
    def depth(self) -> int:
        return self.left.high.shape[2]

    @property
    def chunk(self) -> int:
        """Channels that are multiplied at a time."""
        return min(DEPTH, self.depth)


def pack_factors(left: Tensor, right: Tensor, offset: Tensor, padded: int) -> PairFactors:
    """Scale the vectors [n, K], [n, K] and [n] for float16, and pad them to whole tiles."""
    by_channel = right.abs().amax(0).clamp_min(_TINY)
    right, left = right / by_channel, left * by_channel
    size = (left.abs().sum(1).amax() + offset.abs().amax()).clamp_min(_TINY)
    below = padded - len(left)
    return PairFactors(
        _pack_long(left / size, below), _pack_long(right, below), pad(offset / size, (0, below))[None], size
    )


def _pack_long(rows: Tensor, below: int) -> HalfPair:
    """Pack rows [n, K], at most 1, in whole chunks and with so many rows of zeros below."""
    chunk = min(DEPTH, max(MIN_SIDE, power_of_two(rows.shape[1])))
    padded = pad(rows * LONG_SCALE, (0, -rows.shape[1] % chunk, 0, below))
    return HalfPair.split(padded[None])


def multiply_pairs(
    graph: PackedGraph,
    sums: RowSums,
    streaming_blocks: Tensor,
    factors: PairFactors,
    source: HalfPair,
    *,
    tiles: tuple[Tile, ...] = PAIR_TILES,
) -> Tensor:
    """Multiply by H + H^T, of which the rows that stream are computed again: [B, padded, width] float32.

    Args:
        graph: packed embeddings.
        sums: of the rows that stream; ``row_max`` is inf in the others.
        streaming_blocks: [B, padded / 128] int8, blocks of rows that stream.
        factors: of H.
        source: [B, padded, width], in two halves.
        tiles: to choose from, best first.
    """
    memory = shared_memory(graph.valid.device)
    width = source.high.shape[2]
    target = torch.empty_like(source.high, dtype=torch.float32)
    for channels in channel_tiles(width, source.halves):
        value_channels = (channels.main + channels.tail) * source.halves
        tile = pair_tile(
            sum(graph.channels) * graph.keys.halves, value_channels, factors.chunk * source.halves, memory, tiles
        )
        launch(
            kernels.multiply_pairs,
            (graph.padded // tile.rows, channels.tiles, graph.batch),
            *(*graph.pointers(), *sums, streaming_blocks),
            *(*factors.left.pointers(), *factors.right.pointers(), factors.offset, *source.pointers(), target),
            *(graph.scale, LONG_SCALE**-2, graph.padded, factors.depth, width, channels.first),
            D0=graph.channels[0],
            D1=graph.channels[1],
            C0=channels.main,
            C1=channels.tail,
            BM=tile.rows,
            BN=tile.columns,
            DEPTH=factors.chunk,
            BLOCK=BLOCK,
            KEYS_HAVE_LOW=graph.keys.has_low,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return target


def weigh_pairs(pairs: Pairs, factors: PairFactors) -> Pairs:
    """Compute H on the listed pairs: the same lists with other weights."""
    _, padded, depth = factors.left.high.shape
    weights = pairs.weights.map(torch.empty_like)
    launch(
        kernels.weigh_pairs,
        (len(pairs.order),),
        *(pairs.order, *pairs.pointers()[:-1], *factors.left.pointers(), *factors.right.pointers(), factors.offset),
        *(*weights.pointers(), LONG_SCALE**-2, padded, depth),
        GROUP=GROUP,
        WEIGHT_BLOCK=WEIGHT_BLOCK,
        DEPTH=factors.chunk,
        num_warps=4,
        num_stages=2,
    )
    return replace(pairs, weights=weights)


class TransitionProducts:
    """Products with S of one image; see :class:`rwpm_fast.ops.gradient.DifferentiableGraph`. Nothing waits.

    Results are 0 in pixels outside the graph.

    Attributes:
        unit: unit embeddings, [n, D] float32.
    """

    def __init__(
        self,
        graph: PackedGraph,
        sums: RowSums,
        unit: Tensor,
        pairs: TransposablePairs | None = None,
    ) -> None:
        """
        Args:
            graph: packed embeddings of a batch of one.
            sums: of the rows that stream.
            unit: [n, D] float32, finite.
            pairs: kept pairs of the other rows; None: every row streams.
        """
        self.unit = unit
        self._graph, self._sums, self._pairs = graph, sums, pairs
        self._inside = graph.valid[0, : graph.pixels, None] != 0
        self._ones = torch.ones_like(graph.inv_norm)
        self._streaming_blocks = graph.valid.new_ones(1, graph.padded // BLOCK)
        if pairs is not None:
            self._streaming_blocks = pairs.rows.streaming_blocks
            streams = self._streaming_blocks.repeat_interleave(BLOCK, 1) != 0
            # What was not computed weighs nothing.
            self._sums = RowSums(
                torch.where(streams, sums.row_max, torch.inf), torch.where(streams, sums.inv_row_sum, 0)
            )
            self._weight_factor = torch.where(streams, 0, pairs.rows.weight_factor)[0, : graph.pixels, None]

    def multiply(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by S."""
        source, factor = self._pack(m)
        rows = None if self._pairs is None else self._pairs.rows
        state = take_steps(self._graph, source, self._ones, 1, pairs=rows, sums=self._sums)
        return self._unpack(state.to_float(), factor, m)

    def multiply_transposed(self, m: Tensor) -> Tensor:
        """Multiply [n, C] by the transpose of S."""
        source, factor = self._pack(m)
        target = source.map(torch.empty_like)
        streaming_blocks = None if self._pairs is None else self._streaming_blocks
        exact_step(self._graph, self._sums, streaming_blocks, source, source, target, self._ones, True)
        product = self._unpack(target.to_float(), factor, m)
        return product if self._pairs is None else product + self._transposed(self._pairs, m)

    def multiply_pairs(self, left: Tensor, right: Tensor, offset: Tensor) -> Tensor:
        """Multiply the unit embeddings by H + H^T, ``H_ij = S_ij (left_i . right_j + offset_i)``: [n, D].

        Args:
            left: [n, K].
            right: [n, K].
            offset: [n].
        """
        factors = pack_factors(left, right, offset, self._graph.padded)
        source, factor = self._pack(self.unit)
        product = multiply_pairs(self._graph, self._sums, self._streaming_blocks, factors, source)
        if self._pairs is None:
            return self._unpack(product, factor, self.unit) * factors.size
        pairs = self._pairs._replace(rows=weigh_pairs(self._pairs.rows, factors))
        listed = source.map(torch.zeros_like)  # rows that stream stay 0
        sparse_step(pairs.rows, source, source, listed, self._ones)
        product = self._unpack(product + listed.to_float(), factor, self.unit)
        return (product + self._transposed(pairs, self.unit)) * factors.size

    def _transposed(self, pairs: TransposablePairs, m: Tensor) -> Tensor:
        """Multiply by the transpose of listed pairs."""
        source, factor = self._pack(m * self._weight_factor)
        return self._unpack(transposed_product(pairs, source), factor, m)

    def _pack(self, m: Tensor) -> tuple[HalfPair, Tensor]:
        return pack_state(m[None], self._graph, check=False, has_low=True)

    def _unpack(self, state: Tensor, factor: Tensor, m: Tensor) -> Tensor:
        """[n, C] like m, of a state [1, padded, width]."""
        pixels, channels = m.shape
        return torch.where(self._inside, state[0, :pixels, :channels] / factor, 0)
