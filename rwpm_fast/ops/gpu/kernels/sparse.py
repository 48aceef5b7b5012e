"""The walk over the pairs that were kept: exact weights for groups of rows and their columns, and the step."""

from __future__ import annotations

import triton
import triton.language as tl

from .exact import WEIGHT_SHIFT
from .tiles import LOW_UNIT, add_values, high_half, load_queries, low_half, products, store_step


@triton.jit
def weigh(
    p_keys,  # [B, padded, D0 + D1]
    p_keys_low,
    p_inv_norm,  # [B, padded]
    p_valid,  # [B, padded] int8
    p_max_logit_bound,  # [B, padded] upper bound of scale * cosine
    p_begins,  # [B * groups] int64: where a group's list begins, -1 for a group that streams
    p_counts,  # [B * groups] int32
    p_columns,  # [capacity] int32
    # output
    p_weights,  # [capacity / WEIGHT_BLOCK, GROUP, WEIGHT_BLOCK], 2^WEIGHT_SHIFT times as large
    p_weights_low,
    p_weight_factor,  # [B, padded] 1 / sum of a row's stored weights, with 2^-WEIGHT_SHIFT; only in groups with a list
    scale,
    padded,
    D0: tl.constexpr,
    D1: tl.constexpr,
    GROUP: tl.constexpr,
    WEIGHT_BLOCK: tl.constexpr,
    BM: tl.constexpr,  # rows of a group that a program takes
    BN: tl.constexpr,  # columns of a weight block that it takes at once
    KEYS_HAVE_LOW: tl.constexpr,
    VALUES_HAVE_LOW: tl.constexpr,
):
    """Compute the exact weights of the listed pairs, in weight blocks, and one over the sum of each row.

    Grid: (B * groups, GROUP / BM).
    """
    i_group = tl.program_id(0).to(tl.int64)
    begin = tl.load(p_begins + i_group)
    if begin < 0:
        return
    groups = padded // GROUP
    i_batch = i_group // groups
    p_keys += i_batch * padded * (D0 + D1)
    p_keys_low += i_batch * padded * (D0 + D1)
    p_inv_norm += i_batch * padded
    p_valid += i_batch * padded
    o_in_group = tl.program_id(1) * BM + tl.arange(0, BM)
    o_row = (i_group % groups).to(tl.int32) * GROUP + o_in_group
    m_row_valid = tl.load(p_valid + o_row) != 0
    i_row = (i_group % groups) * GROUP + tl.program_id(1) * BM
    b_query, b_query_tail, b_query_low, b_query_tail_low = load_queries(
        p_keys, p_keys_low, i_row, D0, D1, BM, KEYS_HAVE_LOW
    )
    b_to_logit = tl.load(p_inv_norm + o_row) * scale
    b_max_logit_bound = tl.load(p_max_logit_bound + i_batch * padded + o_row)
    count = tl.load(p_counts + i_group)
    o_slot = tl.arange(0, BN)
    o_in_block = o_in_group[:, None] * WEIGHT_BLOCK + o_slot[None, :]
    b_sum = tl.zeros([BM], tl.float32)
    for i_slot in range(0, tl.cdiv(count, WEIGHT_BLOCK) * WEIGHT_BLOCK, BN):
        o_col = tl.load(p_columns + begin + i_slot + o_slot)
        o_key = o_col.to(tl.int64) * (D0 + D1)
        b_logit = products(
            b_query, b_query_tail, b_query_low, b_query_tail_low, p_keys + o_key, p_keys_low + o_key, D0, D1,
            KEYS_HAVE_LOW,
        )  # fmt: skip
        b_logit = b_logit * tl.load(p_inv_norm + o_col)[None, :] * b_to_logit[:, None]
        m_pair = (i_slot + o_slot < count)[None, :] & (o_row[:, None] != o_col[None, :]) & m_row_valid[:, None]
        b_logit = tl.where(m_pair, tl.minimum(b_logit - b_max_logit_bound[:, None], 0.0), float("-inf"))
        b_weight = tl.exp2(b_logit + WEIGHT_SHIFT)
        o_weight = (begin + i_slot // WEIGHT_BLOCK * WEIGHT_BLOCK) * GROUP + i_slot % WEIGHT_BLOCK + o_in_block
        b_high = high_half(b_weight)
        tl.store(p_weights + o_weight, b_high)
        b_stored = b_high.to(tl.float32)
        if VALUES_HAVE_LOW:
            b_low = low_half(b_weight, b_high)
            tl.store(p_weights_low + o_weight, b_low)
            b_stored += b_low.to(tl.float32) * LOW_UNIT
        b_sum += tl.sum(b_stored, 1)
    p_out = p_weight_factor + i_batch * padded + o_row
    tl.store(p_out, tl.where(b_sum > 0, 1 / tl.where(b_sum > 0, b_sum, 1.0), 0.0))


@triton.jit
def step(
    p_order,  # [B * groups] int64: the groups, those with the longest lists first
    p_begins,  # [B * groups] int64
    p_counts,  # [B * groups] int32
    p_columns,  # [capacity] int32
    p_weights,  # [capacity / WEIGHT_BLOCK, GROUP, WEIGHT_BLOCK]
    p_weights_low,
    p_weight_factor,  # [B, padded]
    p_alpha,  # [B, padded]
    p_start,  # [B, padded, width]
    p_start_low,
    p_source,  # [B, padded, width]
    p_source_low,
    # output
    p_target,  # [B, padded, width]: alpha_i S source + (1 - alpha_i) start, in the groups that have a list
    p_target_low,
    padded,
    width,
    first_channel,
    C0: tl.constexpr,
    C1: tl.constexpr,
    GROUP: tl.constexpr,
    WEIGHT_BLOCK: tl.constexpr,
    VALUES_HAVE_LOW: tl.constexpr,
):
    """Make one transition over the lists: weight blocks times gathered values.

    Grid: (B * groups, channel tiles).
    """
    i_group = tl.load(p_order + tl.program_id(0))
    begin = tl.load(p_begins + i_group)
    if begin < 0:
        return
    i_channel = first_channel + tl.program_id(1) * (C0 + C1)
    groups = padded // GROUP
    i_batch = i_group // groups
    p_source += i_batch * padded * width + i_channel
    p_source_low += i_batch * padded * width + i_channel
    count = tl.load(p_counts + i_group)
    o_slot = tl.arange(0, WEIGHT_BLOCK)
    o_in_block = tl.arange(0, GROUP)[:, None] * WEIGHT_BLOCK + o_slot[None, :]
    b_acc = tl.zeros([GROUP, C0], tl.float32)
    b_acc_tail = tl.zeros([GROUP, C1 if C1 > 0 else 1], tl.float32)
    for i_slot in range(0, count, WEIGHT_BLOCK):
        o_value = tl.load(p_columns + begin + i_slot + o_slot).to(tl.int64) * width
        b_weight = tl.load(p_weights + (begin + i_slot) * GROUP + o_in_block)
        b_low = b_weight
        if VALUES_HAVE_LOW:
            b_low = tl.load(p_weights_low + (begin + i_slot) * GROUP + o_in_block)
        p_value, p_value_low = p_source + o_value, p_source_low + o_value
        b_acc = add_values(b_acc, b_weight, b_low, p_value, p_value_low, 0, C0, VALUES_HAVE_LOW)
        if C1 > 0:
            b_acc_tail = add_values(b_acc_tail, b_weight, b_low, p_value, p_value_low, C0, C1, VALUES_HAVE_LOW)
    o_row_out = i_batch * padded + (i_group % groups) * GROUP + tl.arange(0, GROUP)
    b_factor = tl.load(p_weight_factor + o_row_out)
    b_alpha = tl.load(p_alpha + o_row_out)
    o_out = o_row_out * width + i_channel
    store_step(b_acc, b_factor, b_alpha, o_out, p_start, p_start_low, p_target, p_target_low, 0, C0, VALUES_HAVE_LOW)
    if C1 > 0:
        store_step(
            b_acc_tail, b_factor, b_alpha, o_out, p_start, p_start_low, p_target, p_target_low, C0, C1, VALUES_HAVE_LOW
        )
