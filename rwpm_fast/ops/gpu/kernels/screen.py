"""Screening: every pair of pixels once, by half of the tiles, to find which pairs may matter to which rows.

A tile of cosines serves its rows and its columns alike. For that, both must have a threshold before the first tile is
computed: the sum over the pixels around a row bounds the whole row's sum from below, so that little more is kept than
whole sums would ask for. What is added up by several programs is added up in integers, so that the order does not
matter. docs/design/sparse-gpu.md says how tight the bound is, and why the products are not made in eight bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .select import GROUP, MAX_MARGIN, count_bits, pack_bitmask, unpack_bitmask
from .tiles import load_queries, products

# Dropped mass is counted in fixed point, with the tolerance as one. A pair is dropped for less than is kept at first,
# so that a row's N of them come to at most 40 tolerances, one over ScreenConfig.keep_fraction: less than 2^24 units,
# each held by a float32.
FIXED_POINT_ONE = tl.constexpr(2.0**18)


@triton.jit
def float_to_ordered_int(b_x):
    """Integers in the order of the floats."""
    b_bits = b_x.to(tl.int32, bitcast=True)
    return b_bits ^ ((b_bits >> 31) & 0x7FFFFFFF)


def ordered_int_to_float(ordered: Tensor) -> Tensor:
    """The floats of :func:`float_to_ordered_int`; inf for -inf, and for the least integer, which no float gives."""
    x = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return torch.where(x > -torch.inf, x, torch.inf)


@triton.jit
def to_fixed_point(b_share, one):
    """Shares in fixed point, rounded up."""
    return tl.ceil(b_share * one).to(tl.int32)


@triton.jit
def screen(
    p_keys,  # [B, padded, D0 + D1] float16
    p_inv_norm,  # [B, padded]
    p_valid,  # [B, padded] int8
    p_quant_error,  # [B] by twice this a cosine may be off
    p_row_lse_bound,  # [B, padded] log2 of the sum of exp2(scale * cosine), at least; inf in rows not to be screened
    # input and output, from zeros (row_max: from the least integer)
    p_dropped_mass,  # [B, padded] int32: dropped shares of exp2(row_lse_bound), in fixed point
    p_row_max,  # [B, padded] int32: largest logit among the pairs of tiles that were not skipped, float_to_ordered_int
    p_bits,  # [B, groups, padded / 32] int32: columns of a group
    p_counts,  # [B, groups] int32: their number
    scale,
    log_screen_threshold,  # log2 of the share below which no pair is looked for
    log_keep_threshold,  # log2 of the share from which on a pair is kept
    fixed_point_one,  # what a share of 1 is in fixed point
    padded,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BM: tl.constexpr,  # pixels of a tile's side, a multiple of GROUP
    BN: tl.constexpr,  # of those the columns computed at once, a multiple of GROUP too
):
    """Compare each pair of pixels once; mark the columns that groups keep and count what their rows drop.

    Grid: (padded / BM, tiles that a row tile takes / tiles of a program, B).
    """
    i_batch = tl.program_id(2).to(tl.int64)
    row_tile = tl.program_id(0)
    margin = 2 * tl.load(p_quant_error + i_batch) * scale
    if margin > MAX_MARGIN:
        return
    tiles, groups, words = padded // BM, padded // GROUP, padded // 32
    p_keys += i_batch * padded * (D0 + D1)
    p_inv_norm += i_batch * padded
    p_valid += i_batch * padded
    p_row_lse_bound += i_batch * padded
    p_dropped_mass += i_batch * padded
    p_row_max += i_batch * padded
    p_bits += i_batch * groups * words
    p_counts += i_batch * groups

    o_bit = tl.arange(0, 32)
    o_row = row_tile * BM + tl.arange(0, BM)
    o_row_group = row_tile * (BM // GROUP) + tl.arange(0, BM // GROUP)
    o_row_word = row_tile * (BM // 32) + tl.arange(0, BM // 32)
    b_row_penalty = tl.where(tl.load(p_valid + o_row) != 0, 0.0, float("-inf"))
    b_row_lse = tl.load(p_row_lse_bound + o_row)
    b_to_logit = tl.load(p_inv_norm + o_row) * scale
    b_query, b_query_tail, _, _ = load_queries(p_keys, p_keys, row_tile * BM, D0, D1, BM, False)
    b_row_dropped = tl.zeros([BM], tl.float32)
    b_row_max = tl.full([BM], float("-inf"), tl.float32)
    b_row_count = tl.zeros([BM // GROUP], tl.int32)
    # Two tiles of pixels are compared once: each row tile takes itself and the next half of all tiles, cyclically.
    # Opposite tiles, where their number is even, are compared by the lower one.
    num_tiles = (tiles + 1) // 2
    if (tiles % 2 == 0) & (row_tile < tiles // 2):
        num_tiles += 1
    tiles_per_program = tl.cdiv(tiles // 2 + 1, tl.num_programs(1))
    first_offset = tl.program_id(1) * tiles_per_program
    tl.static_assert(BM % BN == 0)
    SUBTILES: tl.constexpr = BM // BN
    for i_subtile in range(first_offset * SUBTILES, tl.minimum(first_offset + tiles_per_program, num_tiles) * SUBTILES):
        tile_offset = i_subtile // SUBTILES
        i_col = (row_tile + tile_offset) % tiles * BM + i_subtile % SUBTILES * BN
        o_col = i_col + tl.arange(0, BN)
        p_key = p_keys + tl.cast(o_col, tl.int64) * (D0 + D1)
        b_logit = products(b_query, b_query_tail, b_query, b_query, p_key, p_key, D0, D1, False)
        b_logit = b_logit * tl.load(p_inv_norm + o_col)[None, :] * b_to_logit[:, None]
        b_col_lse = tl.load(p_row_lse_bound + o_col)
        b_threshold = tl.minimum(b_row_lse[:, None], b_col_lse[None, :]) + (log_screen_threshold - margin)
        # Most tiles of a large map hold nothing to look for, neither for their rows nor their columns, and end here.
        if tl.max(b_logit - b_threshold) >= 0:
            b_logit += b_row_penalty[:, None] + tl.where(tl.load(p_valid + o_col) != 0, 0.0, float("-inf"))[None, :]
            if tile_offset == 0:
                b_logit = tl.where(o_row[:, None] == o_col[None, :], float("-inf"), b_logit)
            b_row_log_share = b_logit - b_row_lse[:, None]
            b_row_word = pack_bitmask((b_row_log_share >= log_keep_threshold - margin).to(tl.int32))
            b_row_dropped += tl.sum(tl.where(unpack_bitmask(b_row_word, BM) > 0, 0.0, tl.exp2(b_row_log_share)), 1)
            b_row_max = tl.maximum(b_row_max, tl.max(b_logit, 1))
            b_row_count += count_bits(b_row_word)
            o_row_bits = o_row_group.to(tl.int64)[:, None] * words + i_col // 32 + tl.arange(0, BN // 32)[None, :]
            tl.store(p_bits + o_row_bits, b_row_word)
            if tile_offset > 0:  # the same for the columns, whose groups keep rows of this tile
                b_col_log_share = b_logit - b_col_lse[None, :]
                b_col_pair = (b_col_log_share >= log_keep_threshold - margin).to(tl.int32)
                b_col_selected = tl.max(tl.reshape(b_col_pair, (BM, BN // GROUP, GROUP)), 2)  # [BM, groups]
                b_col_kept = tl.broadcast_to(b_col_selected[:, :, None], (BM, BN // GROUP, GROUP))
                b_col_dropped = tl.sum(tl.where(tl.reshape(b_col_kept, (BM, BN)) > 0, 0.0, tl.exp2(b_col_log_share)), 0)
                tl.atomic_add(p_dropped_mass + o_col, to_fixed_point(b_col_dropped, fixed_point_one), sem="relaxed")
                tl.atomic_max(p_row_max + o_col, float_to_ordered_int(tl.max(b_logit, 0)), sem="relaxed")
                o_col_group = i_col // GROUP + tl.arange(0, BN // GROUP)
                tl.atomic_add(p_counts + o_col_group, tl.sum(b_col_selected, 0), sem="relaxed")
                b_col_bit = tl.reshape(b_col_selected, (BM // 32, 32, BN // GROUP)) << o_bit[None, :, None]
                p_col_bits = p_bits + o_col_group.to(tl.int64)[None, :] * words + o_row_word[:, None]
                tl.store(p_col_bits, tl.sum(b_col_bit, 1))
    tl.atomic_add(p_dropped_mass + o_row, to_fixed_point(b_row_dropped, fixed_point_one), sem="relaxed")
    tl.atomic_max(p_row_max + o_row, float_to_ordered_int(b_row_max), sem="relaxed")
    tl.atomic_add(p_counts + o_row_group, b_row_count, sem="relaxed")
