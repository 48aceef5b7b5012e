"""Products with the transpose of a matrix of listed pairs: what every slot adds to its column, and the sums of columns.

Lists are of rows. Which programs add to a column is in no order, so that they store what they would add, slot by slot;
the slots of a column, sorted once for all products, are then summed by one program, always in the same order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import multiply


@triton.jit
def spread(
    p_order,  # [B * groups] int64: the groups, those with the longest lists first
    p_begins,  # [B * groups] int64
    p_counts,  # [B * groups] int32
    p_weights,  # [capacity / WEIGHT_BLOCK, GROUP, WEIGHT_BLOCK]
    p_weights_low,
    p_source,  # [B, padded, width]
    p_source_low,
    # output
    p_slot_values,  # [capacity, CHANNELS] float32: sums over a group's rows of weights times values
    width,
    first_channel,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    WEIGHT_BLOCK: tl.constexpr,
):
    """Multiply each group's values by the transpose of its weight blocks.

    Grid: (B * groups,).
    """
    i_group = tl.load(p_order + tl.program_id(0))
    begin = tl.load(p_begins + i_group)
    if begin < 0:
        return
    count = tl.load(p_counts + i_group)
    o_in_group = tl.arange(0, GROUP)
    o_slot = tl.arange(0, WEIGHT_BLOCK)
    o_channel = tl.arange(0, CHANNELS)
    m_channel = (first_channel + o_channel < width)[None, :]
    o_value = (i_group * GROUP + o_in_group)[:, None] * width + first_channel + o_channel[None, :]
    b_value = tl.load(p_source + o_value, mask=m_channel, other=0)
    b_value_low = tl.load(p_source_low + o_value, mask=m_channel, other=0)
    o_in_block = o_in_group[None, :] * WEIGHT_BLOCK + o_slot[:, None]  # [WEIGHT_BLOCK, GROUP]
    for i_slot in range(0, count, WEIGHT_BLOCK):
        b_weight = tl.load(p_weights + (begin + i_slot) * GROUP + o_in_block)
        b_low = tl.load(p_weights_low + (begin + i_slot) * GROUP + o_in_block)
        b_sum = tl.zeros([WEIGHT_BLOCK, CHANNELS], tl.float32)
        b_sum = multiply(b_weight, b_low, b_value, b_value_low, b_sum, True, True)
        tl.store(p_slot_values + (begin + i_slot + o_slot)[:, None] * CHANNELS + o_channel[None, :], b_sum)


@triton.jit
def gather(
    p_slot_values,  # [capacity, CHANNELS] float32
    p_slots,  # [capacity] int64: slots in the order of their columns
    p_firsts,  # [B * padded + 1] int64: where a column's slots begin in p_slots
    # output
    p_target,  # [B, padded, width] float32: sum of a column's slots
    width,
    first_channel,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Sum the slots of each column.

    Grid: (B * padded / ROWS,).
    """
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    o_channel = tl.arange(0, CHANNELS)
    b_first = tl.load(p_firsts + o_row)
    b_count = tl.load(p_firsts + o_row + 1) - b_first
    b_sum = tl.zeros([ROWS, CHANNELS], tl.float32)
    for i_slot in range(0, tl.max(b_count, 0)):
        m_slot = i_slot < b_count
        o_slot = tl.load(p_slots + b_first + i_slot, mask=m_slot, other=0)
        o_value = o_slot[:, None] * CHANNELS + o_channel[None, :]
        b_sum += tl.load(p_slot_values + o_value, mask=m_slot[:, None], other=0)
    m_channel = (first_channel + o_channel < width)[None, :]
    tl.store(p_target + o_row[:, None] * width + first_channel + o_channel[None, :], b_sum, mask=m_channel)
