"""The exact walk, streamed: every step computes every weight again, from row sums that were computed once.

row_sums keeps a running maximum and sum, as flash attention does. A step then needs neither. Maximum and sum are
stored separately, and not as one log-sum-exp: that is around 100, where a float32 is good to 1e-5, while the difference
of a logit and the row's largest is as exact as the logit, and the same in the sum and in the steps.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import add_values, high_half, load_queries, low_half, products, store_step

# Weights are computed 2^WEIGHT_SHIFT times as large: the largest, 1, is then 32768 of the 65504 that float16 holds, and
# one of 1e-9 still has all its digits.
WEIGHT_SHIFT = tl.constexpr(15)
WEIGHT_UNIT = tl.constexpr(2.0**-15)


@triton.jit
def row_sums(
    p_keys,  # [B, padded, D0 + D1]
    p_keys_low,
    p_inv_norm,  # [B, padded]
    p_valid,  # [B, padded] int8
    p_row_max,  # output: [B, padded] largest of scale * cosine over the other pixels; inf in isolated and invalid rows
    p_inv_row_sum,  # output: [B, padded] 1 / sum of exp2(scale * cosine - row_max); 0 where row_max is inf
    p_streaming_blocks,  # [B, blocks] int8: blocks of BLOCK rows that stream
    scale,
    padded,
    window,  # pixels before and after its tile, in storage order, that a row sums over; a multiple of BN
    D0: tl.constexpr,
    D1: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS_HAVE_LOW: tl.constexpr,
    ONLY_STREAMING_BLOCKS: tl.constexpr,  # whether only the blocks of p_streaming_blocks stream
):
    """Compute the maximum and sum of each row's softmax, over all columns or a window of them.

    Grid: (padded / BM, B), tiles of rows.
    """
    i_batch = tl.program_id(1).to(tl.int64)
    i_row = tl.program_id(0) * BM
    if ONLY_STREAMING_BLOCKS:
        if tl.load(p_streaming_blocks + i_batch * (padded // BLOCK) + i_row // BLOCK) == 0:
            return
    p_keys += i_batch * padded * (D0 + D1)
    p_keys_low += i_batch * padded * (D0 + D1)
    p_inv_norm += i_batch * padded
    p_valid += i_batch * padded
    o_row = i_row + tl.arange(0, BM)
    b_query, b_query_tail, b_query_low, b_query_tail_low = load_queries(
        p_keys, p_keys_low, i_row, D0, D1, BM, KEYS_HAVE_LOW
    )
    b_to_logit = tl.load(p_inv_norm + o_row) * scale
    b_max = tl.full([BM], float("-inf"), tl.float32)
    b_sum = tl.zeros([BM], tl.float32)
    for i_col in range(tl.maximum(i_row - window, 0) // BN * BN, tl.minimum(i_row + BM + window, padded), BN):
        o_col = i_col + tl.arange(0, BN)
        o_key = tl.cast(o_col, tl.int64) * (D0 + D1)
        b_logit = products(
            b_query, b_query_tail, b_query_low, b_query_tail_low, p_keys + o_key, p_keys_low + o_key, D0, D1,
            KEYS_HAVE_LOW,
        )  # fmt: skip
        b_logit = b_logit * tl.load(p_inv_norm + o_col)[None, :] * b_to_logit[:, None]
        m_pair = (tl.load(p_valid + o_col) != 0)[None, :] & (o_row[:, None] != o_col[None, :])
        b_logit = tl.where(m_pair, b_logit, float("-inf"))
        b_new_max = tl.maximum(b_max, tl.max(b_logit, 1))
        b_finite_max = tl.where(b_new_max == float("-inf"), 0.0, b_new_max)  # -inf minus -inf would be NaN
        b_sum = b_sum * tl.exp2(b_max - b_finite_max) + tl.sum(tl.exp2(b_logit - b_finite_max[:, None]), 1)
        b_max = b_new_max
    # Invalid rows, and valid ones without another valid pixel: their weights all become 0.
    m_no_pair = (b_sum == 0) | (tl.load(p_valid + o_row) == 0)
    tl.store(p_row_max + i_batch * padded + o_row, tl.where(m_no_pair, float("inf"), b_max))
    p_out = p_inv_row_sum + i_batch * padded + o_row
    tl.store(p_out, tl.where(m_no_pair, 0.0, 1 / tl.where(m_no_pair, 1.0, b_sum)))


@triton.jit
def step(
    p_keys,  # [B, padded, D0 + D1]
    p_keys_low,
    p_inv_norm,  # [B, padded]
    p_row_max,  # [B, padded]
    p_inv_row_sum,  # [B, padded]
    p_alpha,  # [B, padded]
    p_streaming_blocks,  # [B, blocks] int8
    p_start,  # [B, padded, width]
    p_start_low,
    p_source,  # [B, padded, width]
    p_source_low,
    # output
    p_target,  # [B, padded, width]: alpha_i S source + (1 - alpha_i) start
    p_target_low,
    scale,
    padded,
    width,
    first_channel,
    D0: tl.constexpr,
    D1: tl.constexpr,
    C0: tl.constexpr,
    C1: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS_HAVE_LOW: tl.constexpr,
    VALUES_HAVE_LOW: tl.constexpr,
    ONLY_STREAMING_BLOCKS: tl.constexpr,
    ADJOINT: tl.constexpr,
):
    """Make one exact transition, or one by the transpose of S: each tile's weights, times the columns' values.

    Grid: (padded / BM, channel tiles, B).
    """
    i_batch = tl.program_id(2).to(tl.int64)
    i_row = tl.program_id(0) * BM
    p_streaming_blocks += i_batch * (padded // BLOCK)
    if ONLY_STREAMING_BLOCKS and not ADJOINT:
        if tl.load(p_streaming_blocks + i_row // BLOCK) == 0:
            return
    i_channel = first_channel + tl.program_id(1) * (C0 + C1)
    p_keys += i_batch * padded * (D0 + D1)
    p_keys_low += i_batch * padded * (D0 + D1)
    p_inv_norm += i_batch * padded
    p_row_max += i_batch * padded
    p_inv_row_sum += i_batch * padded
    p_source += i_batch * padded * width + i_channel
    p_source_low += i_batch * padded * width + i_channel
    o_row = i_row + tl.arange(0, BM)
    b_query, b_query_tail, b_query_low, b_query_tail_low = load_queries(
        p_keys, p_keys_low, i_row, D0, D1, BM, KEYS_HAVE_LOW
    )
    b_to_logit = tl.load(p_inv_norm + o_row) * scale
    b_row_max = tl.load(p_row_max + o_row)
    b_acc = tl.zeros([BM, C0], tl.float32)
    b_acc_tail = tl.zeros([BM, C1 if C1 > 0 else 1], tl.float32)
    # Columns before, at and after the tile's rows: only in the middle section can a pixel meet itself.
    own_begin = i_row // BN * BN
    own_end = (i_row + BM + BN - 1) // BN * BN
    for section in tl.static_range(3):
        for i_col in range(
            0 if section == 0 else (own_begin if section == 1 else own_end),
            own_begin if section == 0 else (own_end if section == 1 else padded),
            BN,
        ):
            streams = True  # of the transpose, the rows of S are these columns
            if ONLY_STREAMING_BLOCKS and ADJOINT:
                streams = tl.load(p_streaming_blocks + i_col // BLOCK) != 0
            if streams:
                o_col = i_col + tl.arange(0, BN)
                o_key = tl.cast(o_col, tl.int64) * (D0 + D1)
                b_logit = products(
                    b_query, b_query_tail, b_query_low, b_query_tail_low, p_keys + o_key, p_keys_low + o_key, D0, D1,
                    KEYS_HAVE_LOW,
                )  # fmt: skip
                b_logit = b_logit * tl.load(p_inv_norm + o_col)[None, :] * b_to_logit[:, None]
                if section == 1:
                    b_logit = tl.where(o_row[:, None] == o_col[None, :], float("-inf"), b_logit)
                # An invalid key is not masked: its value is 0, but its logit may exceed row_max, and inf * 0 would be
                # NaN. The minimum keeps its weight at most 1. It comes before the subtraction, so that the compiler
                # cannot fuse multiplication and subtraction, whose result would differ from the rounded logits that
                # row_sums added.
                if ADJOINT:  # weights S_ji
                    b_col_max = tl.load(p_row_max + o_col)[None, :]
                    b_logit = tl.minimum(b_logit, b_col_max) - b_col_max
                else:
                    b_logit = tl.minimum(b_logit, b_row_max[:, None]) - b_row_max[:, None]
                b_weight = tl.exp2(b_logit + WEIGHT_SHIFT)
                if ADJOINT:
                    b_weight = b_weight * tl.load(p_inv_row_sum + o_col)[None, :]
                b_high = high_half(b_weight)
                b_low = b_high
                if VALUES_HAVE_LOW:
                    b_low = low_half(b_weight, b_high)
                o_value = tl.cast(o_col, tl.int64) * width
                p_value, p_value_low = p_source + o_value, p_source_low + o_value
                b_acc = add_values(b_acc, b_high, b_low, p_value, p_value_low, 0, C0, VALUES_HAVE_LOW)
                if C1 > 0:
                    b_acc_tail = add_values(b_acc_tail, b_high, b_low, p_value, p_value_low, C0, C1, VALUES_HAVE_LOW)
    b_factor = tl.full([BM], WEIGHT_UNIT, tl.float32)
    if not ADJOINT:
        b_factor = b_factor * tl.load(p_inv_row_sum + o_row)
    b_alpha = tl.load(p_alpha + i_batch * padded + o_row)
    o_out = (i_batch * padded + o_row) * width + i_channel
    store_step(b_acc, b_factor, b_alpha, o_out, p_start, p_start_low, p_target, p_target_low, 0, C0, VALUES_HAVE_LOW)
    if C1 > 0:
        store_step(
            b_acc_tail, b_factor, b_alpha, o_out, p_start, p_start_low, p_target, p_target_low, C0, C1, VALUES_HAVE_LOW
        )
