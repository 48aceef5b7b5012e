"""Selection: which pairs matter to rows that screening could not serve, and the lists of columns that groups of rows
keep.

GROUP pixels that follow each other keep their columns together: neighbors resemble the same pixels, so the union is
little larger than what one of them needs, its weights are a dense block for the matrix units, and a value is fetched
once for all. What a row drops is summed up on the way, so that its share is known and not only bounded.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import load_queries, products

# Bits by which rounded logits may be off; beyond, at temperatures far below 0.001, there is nothing to select by.
MAX_MARGIN = tl.constexpr(8.0)

GROUP = tl.constexpr(64)  # rows that share their columns
WEIGHT_BLOCK = tl.constexpr(64)  # columns of a block of weights; a list is padded to whole blocks


@triton.jit
def pack_bitmask(b_selected):
    """Of pairs [rows, columns], 1 or 0, the columns that any row of a group selected, words [groups, columns / 32]."""
    ROWS: tl.constexpr = b_selected.shape[0]
    WORDS: tl.constexpr = b_selected.shape[1] // 32
    o_bit = tl.arange(0, 32)
    b_word = tl.sum(tl.reshape(b_selected, (ROWS, WORDS, 32)) << o_bit[None, None, :], 2)
    return tl.reduce_or(tl.reshape(b_word, (ROWS // GROUP, GROUP, WORDS)), 1)


@triton.jit
def unpack_bitmask(b_word, ROWS: tl.constexpr):
    """The columns of words [groups, columns / 32] for every row of the groups, [rows, columns], 1 or 0."""
    WORDS: tl.constexpr = b_word.shape[1]
    b_row_word = tl.broadcast_to(b_word[:, None, :], (ROWS // GROUP, GROUP, WORDS))
    b_bit = (tl.reshape(b_row_word, (ROWS, WORDS))[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
    return tl.reshape(b_bit, (ROWS, WORDS * 32))


@triton.jit
def count_bits(b_word):
    """Of words [groups, columns / 32] the columns of each group, [groups]."""
    return tl.sum(tl.sum((b_word[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1, 2), 1)


@triton.jit
def select(
    p_keys,  # [B, padded, D0 + D1] float16
    p_inv_norm,  # [B, padded]
    p_valid,  # [B, padded] int8
    p_quant_error,  # [B] by twice this a cosine may be off
    # input and output
    p_log_keep_threshold,  # [B, padded] log2 of the share of its row from which on a pair is kept
    p_dropped_mass,  # [B, padded] share of its mass that a row drops, at most; inf where it is not known yet
    p_row_max,  # [B, padded] scale * cosine, at most; inf where there is none
    p_bits,  # [B, groups, padded / 32] int32: columns of a group
    p_counts,  # [B, groups] int32: their number
    scale,
    log_screen_threshold,  # log2 of the share below which no pair is looked for
    log_tolerance,
    pixels,
    padded,
    last_pass,  # whether rows that dropped too much keep all that they look for
    D0: tl.constexpr,
    D1: tl.constexpr,
    BM: tl.constexpr,  # a multiple of GROUP
    BN: tl.constexpr,  # a multiple of 32
):
    """Compare the tiles of rows that are over the tolerance with all columns, and rewrite what they keep.

    Grid: (padded / BM, B), tiles of rows.
    """
    i_batch = tl.program_id(1).to(tl.int64)
    i_row = tl.program_id(0) * BM
    p_keys += i_batch * padded * (D0 + D1)
    p_inv_norm += i_batch * padded
    p_valid += i_batch * padded
    o_out = i_batch * padded + i_row + tl.arange(0, BM)
    o_row = i_row + tl.arange(0, BM)
    m_row_valid = tl.load(p_valid + o_row) != 0
    b_log_keep = tl.load(p_log_keep_threshold + o_out)
    # A cosine may be off by 2 quant_error: a pair is kept if it may weigh enough, a dropped one counts with all that it
    # may weigh.
    margin = 2 * tl.load(p_quant_error + i_batch) * scale
    o_group = i_batch * (padded // GROUP) + i_row // GROUP + tl.arange(0, BM // GROUP)
    if margin > MAX_MARGIN:
        tl.store(p_dropped_mass + o_out, tl.where(m_row_valid, float("inf"), 0.0))
        tl.store(p_counts + o_group, tl.zeros([BM // GROUP], tl.int32))
        return
    b_dropped = tl.load(p_dropped_mass + o_out)
    # What a row drops grows about as its threshold does; a factor of two to be sure.
    b_log_excess = tl.log2(tl.maximum(b_dropped, 1e-37)) - log_tolerance
    m_over_budget = m_row_valid & (b_log_excess > 0)
    if tl.max(m_over_budget.to(tl.int32), 0) == 0:
        return
    b_lower = tl.where(
        last_pass != 0, log_screen_threshold, tl.maximum(b_log_keep - b_log_excess - 1, log_screen_threshold)
    )
    b_log_keep = tl.where(m_over_budget & (b_dropped < float("inf")), b_lower, b_log_keep)
    tl.store(p_log_keep_threshold + o_out, b_log_keep)

    b_query, b_query_tail, _, _ = load_queries(p_keys, p_keys, i_row, D0, D1, BM, False)
    b_to_logit = tl.load(p_inv_norm + o_row) * scale
    b_max = tl.full([BM], float("-inf"), tl.float32)
    b_sum = tl.zeros([BM], tl.float32)
    b_dropped = tl.zeros([BM], tl.float32)
    b_count = tl.zeros([BM // GROUP], tl.int32)
    words = padded // 32
    p_word = p_bits + o_group[:, None] * words + tl.arange(0, BN // 32)[None, :]
    tiles = padded // BN
    # From the rows' own tile on, cyclically: neighbors come first, and after them the sum is known well enough.
    for tile_offset in range(0, tiles):
        i_col = (i_row // BN + tile_offset) % tiles * BN
        o_col = i_col + tl.arange(0, BN)
        p_key = p_keys + tl.cast(o_col, tl.int64) * (D0 + D1)
        b_logit = products(b_query, b_query_tail, b_query, b_query, p_key, p_key, D0, D1, False)
        b_logit = b_logit * tl.load(p_inv_norm + o_col)[None, :] * b_to_logit[:, None]
        b_lse = tl.where(b_sum > 0, b_max + tl.log2(tl.where(b_sum > 0, b_sum, 1.0)), float("-inf"))
        b_threshold = tl.where(m_row_valid, b_lse + log_screen_threshold - margin, float("inf"))
        b_word = tl.zeros([BM // GROUP, BN // 32], tl.int32)
        # Most tiles hold nothing that a row looks for, and end here.
        if tl.max(b_logit - b_threshold[:, None]) >= 0:
            m_pair = (tl.load(p_valid + o_col) != 0)[None, :] & (o_row[:, None] != o_col[None, :])
            m_pair = m_pair & m_row_valid[:, None]
            b_logit = tl.where(m_pair, b_logit, float("-inf"))
            b_new_max = tl.maximum(b_max, tl.max(b_logit, 1))
            b_finite_max = tl.where(b_new_max == float("-inf"), 0.0, b_new_max)  # -inf minus -inf would be NaN
            b_weight = tl.exp2(b_logit - b_finite_max[:, None])
            b_rescale = tl.exp2(b_max - b_finite_max)
            b_sum = b_sum * b_rescale + tl.sum(b_weight, 1)
            b_max = b_new_max
            b_keep_threshold = b_finite_max + tl.log2(tl.where(b_sum > 0, b_sum, 1.0)) + b_log_keep - margin
            b_word = pack_bitmask((m_pair & (b_logit >= b_keep_threshold[:, None])).to(tl.int32))
            b_dropped = b_dropped * b_rescale + tl.sum(tl.where(unpack_bitmask(b_word, BM) > 0, 0.0, b_weight), 1)
            b_count += count_bits(b_word)
        tl.store(p_word + i_col // 32, b_word)
    m_isolated = (b_sum == 0) | (m_row_valid == 0)
    b_share = b_dropped / tl.where(m_isolated, 1.0, b_sum) * tl.exp2(2 * margin)
    b_share = b_share + pixels * tl.exp2(log_screen_threshold)
    tl.store(p_dropped_mass + o_out, tl.where(m_isolated, 0.0, b_share))
    tl.store(p_row_max + o_out, tl.where(m_isolated, float("inf"), b_max + margin))
    tl.store(p_counts + o_group, b_count)


@triton.jit
def list_columns(
    p_bits,  # [B * groups, words]
    p_begins,  # [B * groups] int64: where a group's list begins, -1 for a group that has none
    p_counts,  # [B * groups]
    # output
    p_columns,  # [capacity] int32: a group's pixels in order, then its list's padding
    words,
    WORDS: tl.constexpr,
    WEIGHT_BLOCK: tl.constexpr,
):
    """Turn the bits of each group into a list of columns in ascending order.

    Grid: (B * groups).
    """
    i_group = tl.program_id(0).to(tl.int64)
    begin = tl.load(p_begins + i_group)
    if begin < 0:
        return
    listed = 0
    o_bit = tl.arange(0, WORDS * 32)
    for i_word in range(0, words, WORDS):
        o_word = i_word + o_bit // 32
        b_word = tl.load(p_bits + i_group * words + o_word, mask=o_word < words, other=0)
        b_bit = (b_word >> (o_bit % 32)) & 1
        if tl.max(b_bit, 0) > 0:
            b_rank = tl.cumsum(b_bit, 0) - b_bit
            tl.store(p_columns + begin + listed + b_rank, i_word * 32 + o_bit, mask=b_bit > 0)
            listed += tl.sum(b_bit, 0)
    count = tl.load(p_counts + i_group)
    o_slot = count + tl.arange(0, WEIGHT_BLOCK)
    m_padding = o_slot < tl.cdiv(count, WEIGHT_BLOCK) * WEIGHT_BLOCK
    tl.store(p_columns + begin + o_slot, tl.zeros([WEIGHT_BLOCK], tl.int32), mask=m_padding)
