"""Launches of screening, which finds the pairs that matter, and of selecting again for rows that it could not serve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .exact import row_sums
from .kernels import screen as screen_kernels
from .kernels import select as select_kernels
from .kernels.tiles import BLOCK
from .launch import launch, shared_memory
from .pack import PackedGraph
from .tuning import EXACT_TILES, SCREEN_TILES, SELECT_TILES, Tile, screen_tile, select_tile

GROUP = select_kernels.GROUP.value


@dataclass(frozen=True)
class ScreenConfig:
    """How pairs are screened and selected.

    At first a pixel keeps the pairs whose share of its row is at least the tolerance over a part of N; rows for which
    the rest adds up to more keep more when they are selected again.

    Attributes:
        screen_fraction: part of the tolerance that all pairs together may come to that are not looked for, in (0, 1).
        keep_fraction: part of N by which the tolerance is divided for the first threshold of what is kept.
        min_kept: pairs by which it is divided where that part of N is less.
        passes: how often rows over their tolerance are selected again after screening.
        window: pixels before and after a tile, in storage order, over which row sums are bounded before screening; a
            multiple of the columns of ``row_sum_tiles``.
        tiles_per_program: upper bound of the tiles that a program of screening visits, its own included.
        max_density: columns of a group, as a part of N, from which on streaming is no slower.
        row_sum_tiles: for the sums over the window; here and below the first that fits is taken.
        screen_tiles: for screening, rows and columns of a group or more; without one that fits, all rows are
            left to ``select``.
        select_tiles: for ``select``, rows of a group or more.
    """

    screen_fraction: float = 0.25
    keep_fraction: float = 1 / 40
    min_kept: float = 100
    passes: int = 3
    window: int = BLOCK
    tiles_per_program: int = 64
    max_density: float = 0.5
    row_sum_tiles: tuple[Tile, ...] = EXACT_TILES
    screen_tiles: tuple[Tile, ...] = SCREEN_TILES
    select_tiles: tuple[Tile, ...] = SELECT_TILES

    def thresholds(self, pixels: int, tolerance: float) -> tuple[float, float]:
        """Shares of a row from which on a pair is looked for, and at first kept."""
        screen_threshold = tolerance * self.screen_fraction / pixels
        at_first = min(tolerance / max(self.min_kept, pixels * self.keep_fraction), 0.5 / pixels)
        return screen_threshold, max(screen_threshold, at_first)


DEFAULT_CONFIG = ScreenConfig()


class PairMask(NamedTuple):
    """Which columns each group of rows keeps, and what that costs its rows.

    Attributes:
        log_keep_threshold: [B, padded], log2 of the share of its row from which on a pair was kept.
        dropped_mass: [B, padded], upper bound of the share of its mass that a row drops; inf where it is not known.
        max_logit_bound: [B, padded], upper bound of the largest logit; inf where there is none.
        bits: [B, groups, padded / 32] int32, a bit for each column of a group.
        counts: [B, groups] int32, columns of a group.
    """

    log_keep_threshold: Tensor
    dropped_mass: Tensor
    max_logit_bound: Tensor
    bits: Tensor
    counts: Tensor


def screen_pairs(graph: PackedGraph, tolerance: float, config: ScreenConfig = DEFAULT_CONFIG) -> PairMask:
    """Screen all pairs once, and select again for rows that dropped more than the tolerance."""
    pixels, device = graph.pixels, graph.valid.device
    screen_threshold, keep_threshold = config.thresholds(pixels, tolerance)
    tile = screen_tile(sum(graph.channels), shared_memory(device), config.screen_tiles)
    if tile is None:
        mask = empty_mask(graph, keep_threshold)
    else:
        mask = screen_once(graph, tile, tolerance, screen_threshold, keep_threshold, config)
    tile = select_tile(sum(graph.channels), shared_memory(device), config.select_tiles)
    for number in range(config.passes):
        launch(
            select_kernels.select,
            (graph.padded // tile.rows, graph.batch),
            *(*graph.high_pointers(), *mask),
            *(graph.scale, math.log2(screen_threshold), math.log2(tolerance), pixels, graph.padded),
            int(number == config.passes - 1),
            D0=graph.channels[0],
            D1=graph.channels[1],
            BM=tile.rows,
            BN=tile.columns,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return mask


def empty_mask(graph: PackedGraph, keep_threshold: float) -> PairMask:
    """A mask without pairs, whose rows have all yet to be selected for."""
    groups = graph.padded // GROUP
    bits = torch.zeros(graph.batch, groups, graph.padded // 32, dtype=torch.int32, device=graph.valid.device)
    return PairMask(
        torch.full_like(graph.inv_norm, math.log2(keep_threshold)),
        torch.where(graph.valid != 0, math.inf, 0.0),
        torch.full_like(graph.inv_norm, math.inf),
        bits,
        torch.zeros_like(bits[..., 0]),
    )


def screen_once(
    graph: PackedGraph,
    tile: Tile,
    tolerance: float,
    screen_threshold: float,
    keep_threshold: float,
    config: ScreenConfig = DEFAULT_CONFIG,
) -> PairMask:
    """Screen every pair once. See :mod:`rwpm_fast.ops.gpu.kernels.screen`.

    Rows without a bound of their sum, because no other pixel is within the window, and rows of groups that kept too
    many columns keep dropped_mass = inf, so that ``select`` scans them; their bits, counts and max_logit_bound are
    overwritten there.
    """
    mask = empty_mask(graph, keep_threshold)
    margin = 2 * graph.scale * graph.quant_error[:, None]
    near = row_sums(graph, None, window=config.window, tiles=config.row_sum_tiles)
    row_lse_bound = near.row_max - near.inv_row_sum.log2() - margin  # [B, padded], inf where there is none
    dropped = torch.zeros_like(row_lse_bound, dtype=torch.int32)
    max_logit = torch.full_like(dropped, torch.iinfo(torch.int32).min)
    tiles = graph.padded // tile.rows
    units_per_share = screen_kernels.UNITS_PER_TOLERANCE.value / tolerance
    launch(
        screen_kernels.screen,
        (tiles, -(-(tiles // 2 + 1) // config.tiles_per_program), graph.batch),
        *(*graph.high_pointers(), row_lse_bound, dropped, max_logit, mask.bits, mask.counts),
        *(graph.scale, math.log2(screen_threshold), math.log2(keep_threshold), units_per_share, graph.padded),
        D0=graph.channels[0],
        D1=graph.channels[1],
        BM=tile.rows,
        BN=tile.columns,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    # Groups that kept too many columns may have started from a poor bound: their rows, too, are left to select.
    dense = (mask.counts > config.max_density * graph.pixels).repeat_interleave(GROUP, 1)
    known = row_lse_bound.isfinite() & ~dense
    dropped_mass = dropped * (1 / units_per_share) * margin.exp2() + graph.pixels * screen_threshold
    return mask._replace(
        dropped_mass=torch.where(known, dropped_mass, mask.dropped_mass),
        max_logit_bound=screen_kernels.ordered_int_to_float(max_logit) + margin,
    )
