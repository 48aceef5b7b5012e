"""The gradient's products with pairs of pixels: (H + H^T) source, ``H_ij = S_ij (left_i . right_j + offset_i)``.

``left`` and ``right`` are long vectors, the states and gradients of all steps, of which two rows are multiplied in
chunks of DEPTH channels. They are scaled so that no ``left_i . right_j + offset_i`` exceeds 1: H then needs the room
of S in float16.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .exact import WEIGHT_SHIFT
from .tiles import LOW_UNIT, add_values, high_half, load_queries, low_half, multiply, products

# Of H as it is multiplied: the sum of H and H^T is twice as large as a weight can be.
PAIR_SCALE, PAIR_UNIT = tl.constexpr(2.0 ** (WEIGHT_SHIFT.value - 1)), tl.constexpr(2.0 ** (1 - WEIGHT_SHIFT.value))


@triton.jit
def row_products(
    p_left,  # [BM] pointers to rows
    p_left_low,
    p_right,  # [BN]
    p_right_low,
    depth,  # a multiple of DEPTH
    DEPTH: tl.constexpr,
):
    """Return the dot products of BM rows with BN rows: [BM, BN], float32."""
    b_product = tl.zeros([p_left.shape[0], p_right.shape[0]], tl.float32)
    for i_depth in range(0, depth, DEPTH):
        o_depth = i_depth + tl.arange(0, DEPTH)
        b_left = tl.load(p_left[:, None] + o_depth[None, :])
        b_left_low = tl.load(p_left_low[:, None] + o_depth[None, :])
        b_right = tl.load(p_right[None, :] + o_depth[:, None])
        b_right_low = tl.load(p_right_low[None, :] + o_depth[:, None])
        b_product = multiply(b_left, b_left_low, b_right, b_right_low, b_product, True, True)
    return b_product


@triton.jit
def multiply_pairs(
    p_keys,  # [B, padded, D0 + D1]
    p_keys_low,
    p_inv_norm,  # [B, padded]
    p_valid,  # [B, padded] int8
    p_row_max,  # [B, padded]; inf in rows that do not stream, so that they weigh nothing
    p_inv_row_sum,  # [B, padded]
    p_streaming_blocks,  # [B, blocks] int8: blocks of BLOCK rows of S that stream
    p_left,  # [B, padded, depth]
    p_left_low,
    p_right,  # [B, padded, depth]
    p_right_low,
    p_offset,  # [B, padded]
    p_source,  # [B, padded, width]
    p_source_low,
    # output
    p_target,  # [B, padded, width] float32: (H + H^T) source, of the rows of H that stream; 0 in invalid rows
    scale,
    product_unit,  # of the products of left and right as they are stored
    padded,
    depth,
    width,
    first_channel,
    D0: tl.constexpr,
    D1: tl.constexpr,
    C0: tl.constexpr,
    C1: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS_HAVE_LOW: tl.constexpr,
):
    """Multiply by H and its transpose in one pass over all columns, each tile of S computed again.

    Grid: (padded / BM, channel tiles, B).
    """
    i_batch = tl.program_id(2).to(tl.int64)
    i_row = tl.program_id(0) * BM
    i_channel = first_channel + tl.program_id(1) * (C0 + C1)
    p_keys += i_batch * padded * (D0 + D1)
    p_keys_low += i_batch * padded * (D0 + D1)
    p_inv_norm += i_batch * padded
    p_valid += i_batch * padded
    p_row_max += i_batch * padded
    p_inv_row_sum += i_batch * padded
    p_streaming_blocks += i_batch * (padded // BLOCK)
    p_left += i_batch * padded * depth
    p_left_low += i_batch * padded * depth
    p_right += i_batch * padded * depth
    p_right_low += i_batch * padded * depth
    p_offset += i_batch * padded
    p_source += i_batch * padded * width + i_channel
    p_source_low += i_batch * padded * width + i_channel
    o_row = i_row + tl.arange(0, BM)
    b_query, b_query_tail, b_query_low, b_query_tail_low = load_queries(
        p_keys, p_keys_low, i_row, D0, D1, BM, KEYS_HAVE_LOW
    )
    b_to_logit = tl.load(p_inv_norm + o_row) * scale
    b_row_max = tl.load(p_row_max + o_row)[:, None]
    b_inv_row_sum = tl.load(p_inv_row_sum + o_row)[:, None]
    b_row_offset = tl.load(p_offset + o_row)[:, None]
    m_row_valid = tl.load(p_valid + o_row) != 0
    row_streams = tl.load(p_streaming_blocks + i_row // BLOCK) != 0
    o_long = tl.cast(o_row, tl.int64) * depth
    b_acc = tl.zeros([BM, C0], tl.float32)
    b_acc_tail = tl.zeros([BM, C1 if C1 > 0 else 1], tl.float32)
    for i_col in range(0, padded, BN):
        if row_streams | (tl.load(p_streaming_blocks + i_col // BLOCK) != 0):
            o_col = i_col + tl.arange(0, BN)
            o_key = tl.cast(o_col, tl.int64) * (D0 + D1)
            b_logit = products(
                b_query, b_query_tail, b_query_low, b_query_tail_low, p_keys + o_key, p_keys_low + o_key, D0, D1,
                KEYS_HAVE_LOW,
            )  # fmt: skip
            b_logit = b_logit * tl.load(p_inv_norm + o_col)[None, :] * b_to_logit[:, None]
            # The minimum before the subtraction, as in exact.step, which these weights must be those of.
            b_weight = tl.exp2(tl.minimum(b_logit, b_row_max) - b_row_max) * b_inv_row_sum
            b_col_max = tl.load(p_row_max + o_col)[None, :]
            b_transposed = tl.exp2(tl.minimum(b_logit, b_col_max) - b_col_max)
            b_transposed = b_transposed * tl.load(p_inv_row_sum + o_col)[None, :]
            o_long_col = tl.cast(o_col, tl.int64) * depth
            b_product = row_products(
                p_left + o_long, p_left_low + o_long, p_right + o_long_col, p_right_low + o_long_col, depth, DEPTH
            )  # fmt: skip
            b_pair = b_weight * (b_product * product_unit + b_row_offset)
            b_product = row_products(
                p_right + o_long, p_right_low + o_long, p_left + o_long_col, p_left_low + o_long_col, depth, DEPTH
            )  # fmt: skip
            b_pair += b_transposed * (b_product * product_unit + tl.load(p_offset + o_col)[None, :])
            m_pair = (tl.load(p_valid + o_col) != 0)[None, :] & (o_row[:, None] != o_col[None, :])
            b_pair = tl.where(m_pair & m_row_valid[:, None], b_pair * PAIR_SCALE, 0.0)
            b_high = high_half(b_pair)
            b_low = low_half(b_pair, b_high)
            o_value = tl.cast(o_col, tl.int64) * width
            p_value, p_value_low = p_source + o_value, p_source_low + o_value
            b_acc = add_values(b_acc, b_high, b_low, p_value, p_value_low, 0, C0, True)
            if C1 > 0:
                b_acc_tail = add_values(b_acc_tail, b_high, b_low, p_value, p_value_low, C0, C1, True)
    p_out = p_target + (i_batch * padded + o_row)[:, None] * width + i_channel
    tl.store(p_out + tl.arange(0, C0)[None, :], b_acc * PAIR_UNIT)
    if C1 > 0:
        tl.store(p_out + C0 + tl.arange(0, C1)[None, :], b_acc_tail * PAIR_UNIT)


@triton.jit
def weigh_pairs(
    p_order,  # [B * groups] int64: the groups, those with the longest lists first
    p_begins,  # [B * groups] int64
    p_counts,  # [B * groups] int32
    p_columns,  # [capacity] int32
    p_weights,  # [capacity / WEIGHT_BLOCK, GROUP, WEIGHT_BLOCK]
    p_weights_low,
    p_left,  # [B, padded, depth]
    p_left_low,
    p_right,  # [B, padded, depth]
    p_right_low,
    p_offset,  # [B, padded]
    # output
    p_pair_weights,  # like the weights: those of H, which the same weight_factor normalizes
    p_pair_weights_low,
    product_unit,
    padded,
    depth,
    GROUP: tl.constexpr,
    WEIGHT_BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Compute the weights of H for the listed pairs, in weight blocks.

    Grid: (B * groups,).
    """
    i_group = tl.load(p_order + tl.program_id(0))
    begin = tl.load(p_begins + i_group)
    if begin < 0:
        return
    groups = padded // GROUP
    first_row = i_group // groups * padded  # of the image
    o_row = i_group * GROUP + tl.arange(0, GROUP)
    o_left = o_row * depth
    b_offset = tl.load(p_offset + o_row)[:, None]
    count = tl.load(p_counts + i_group)
    o_slot = tl.arange(0, WEIGHT_BLOCK)
    o_in_block = tl.arange(0, GROUP)[:, None] * WEIGHT_BLOCK + o_slot[None, :]
    for i_slot in range(0, count, WEIGHT_BLOCK):
        o_right = (first_row + tl.load(p_columns + begin + i_slot + o_slot)) * depth
        b_product = row_products(
            p_left + o_left, p_left_low + o_left, p_right + o_right, p_right_low + o_right, depth, DEPTH
        )  # fmt: skip
        o_weight = (begin + i_slot) * GROUP + o_in_block
        b_weight = tl.load(p_weights + o_weight).to(tl.float32)
        b_weight += tl.load(p_weights_low + o_weight).to(tl.float32) * LOW_UNIT
        b_pair = b_weight * (b_product * product_unit + b_offset)
        b_high = high_half(b_pair)
        tl.store(p_pair_weights + o_weight, b_high)
        tl.store(p_pair_weights_low + o_weight, low_half(b_pair, b_high))
