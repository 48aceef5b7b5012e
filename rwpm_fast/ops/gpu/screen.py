"""The look at all pairs of a graph, and the later looks of rows for which the first was not enough."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .exact import row_sums
from .kernels import screen as screening
from .kernels import select as selection
from .kernels.tiles import BLOCK
from .launch import launch, shared_memory
from .pack import Graph
from .tuning import Tile, screening_tile, selection_tile

GROUP = selection.GROUP.value

# At first a pixel keeps the pairs whose share of its row is at least the tolerance over a part of N; rows for which the
# rest adds up to more keep more in another pass. What nobody looks for is bounded by N times the smallest share looked
# for: `SEE_PART` of the tolerance.
KEPT_PART, FEWEST_KEPT, PASSES, SEE_PART = 1 / 40, 100, 3, 0.25

# Pixels before and after a tile whose sums a first look begins with: in patches, those around.
REACH = BLOCK
TURNS = 64  # tiles that a program of the first look compares its own with

# Columns of a group, as a part of N, from which on streaming it is no slower.
DENSEST = 0.5


class Look(NamedTuple):
    """What a look at all pairs finds."""

    keep: Tensor  # [B, padded] log2 of the share of its row from which on a pair was kept
    dropped: Tensor  # [B, padded] share of its mass that a row drops, at most; inf where nobody knows
    largest: Tensor  # [B, padded] largest logit, at most; inf where there is none
    bits: Tensor  # [B, groups, padded / 32] int32: columns of a group
    counts: Tensor  # [B, groups] int32


def thresholds(pixels: int, tolerance: float) -> tuple[float, float]:
    """Shares of a row from which on a pair is looked for, and at first kept."""
    see = tolerance * SEE_PART / pixels
    return see, max(see, min(tolerance / max(FEWEST_KEPT, pixels * KEPT_PART), 0.5 / pixels))


def look(graph: Graph, tolerance: float) -> Look:
    """Look at all pairs, and again at those of rows that dropped more than the tolerance."""
    pixels, device = graph.pixels, graph.valid.device
    see, keep = thresholds(pixels, tolerance)
    square = screening_tile(sum(graph.channels), shared_memory(device))
    found = _unseen(graph, keep) if square is None else _screened(graph, square, tolerance, see, keep)
    tile = selection_tile(sum(graph.channels), shared_memory(device))
    for number in range(PASSES):
        launch(
            selection.select,
            (graph.padded // tile.rows, graph.batch),
            *(graph.keys.high, graph.inverse, graph.valid, graph.off, *found),
            *(graph.scale, math.log2(see), math.log2(tolerance), pixels, graph.padded, int(number == PASSES - 1)),
            D0=graph.channels[0],
            D1=graph.channels[1],
            BM=tile.rows,
            BN=tile.columns,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return found


def _unseen(graph: Graph, keep: float) -> Look:
    groups = graph.padded // GROUP
    integers = {"dtype": torch.int32, "device": graph.valid.device}
    return Look(
        torch.full_like(graph.inverse, math.log2(keep)),
        torch.where(graph.valid != 0, math.inf, 0.0),
        torch.full_like(graph.inverse, math.inf),
        torch.zeros(graph.batch, groups, graph.padded // 32, **integers),
        torch.zeros(graph.batch, groups, **integers),
    )


def _screened(graph: Graph, tile: Tile, tolerance: float, see: float, keep: float) -> Look:
    """A look from what rows hold nearby, where they hold anything. See :mod:`rwpm_fast.ops.gpu.kernels.screen`."""
    found = _unseen(graph, keep)
    margin = 2 * graph.scale * graph.off[:, None]
    near = row_sums(graph, None, reach=REACH)
    base = near.largest - near.inverse.log2() - margin  # [B, padded], inf where there is none
    lost = torch.zeros_like(base, dtype=torch.int32)
    largest = torch.full_like(lost, torch.iinfo(torch.int32).min)
    tiles = graph.padded // tile.rows
    per_share = screening.PARTS.value / tolerance
    launch(
        screening.screen,
        (tiles, -(-(tiles // 2 + 1) // TURNS), graph.batch),
        *(graph.keys.high, graph.inverse, graph.valid, graph.off, base, lost, largest, found.bits, found.counts),
        *(graph.scale, math.log2(see), math.log2(keep), per_share, graph.padded),
        D0=graph.channels[0],
        D1=graph.channels[1],
        BM=tile.rows,
        BN=tile.columns,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    # Who kept too much to list it may have begun with far too small a sum, and looks again like who could not begin.
    dense = (found.counts > DENSEST * graph.pixels).repeat_interleave(GROUP, 1)
    known = base.isfinite() & ~dense
    dropped = lost * (1 / per_share) * margin.exp2() + graph.pixels * see
    return found._replace(
        dropped=torch.where(known, dropped, found.dropped), largest=screening.number_of(largest) + margin
    )
