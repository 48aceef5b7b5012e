"""The exact walk, streamed: every step makes every weight anew, from row sums that were made once.

The first pass keeps a running maximum and sum, as flash attention does. A step then needs neither. Maximum and sum are
stored apart, and not as one logarithm: that is around 100, where a float32 is good to 1e-5, while the difference of a
logit and the largest is as good as the logit, and the same in the sum and in the steps.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import add_values, high_of, load_queries, low_of, products, store_step

# Weights are made 2^LIFT times as large: the largest, 1, is then 32768 of the 65504 that float16 holds, and one of 1e-9
# still has all its digits.
LIFT = tl.constexpr(15)
UNLIFT = tl.constexpr(2.0**-15)


@triton.jit
def row_sums(
    keys,  # [B, padded, D0 + D1]
    low,
    inverse,  # [B, padded]
    valid,  # [B, padded] int8
    streams,  # [B, blocks] int8: blocks of BLOCK pixels that stream
    # output
    largest,  # [B, padded] largest of scale * cosine over the other pixels; inf where there is none
    inverse_sum,  # [B, padded] 1 / sum of exp2(scale * cosine - largest); 0 where there is none
    scale,
    padded,
    reach,  # pixels before and after its tile at which a row looks, a multiple of BN
    D0: tl.constexpr,
    D1: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLIT_KEYS: tl.constexpr,
    CHOSEN: tl.constexpr,  # whether to look at `streams`
):
    batch = tl.program_id(1).to(tl.int64)
    begin = tl.program_id(0) * BM
    if CHOSEN:
        if tl.load(streams + batch * (padded // BLOCK) + begin // BLOCK) == 0:
            return
    keys += batch * padded * (D0 + D1)
    low += batch * padded * (D0 + D1)
    inverse += batch * padded
    valid += batch * padded
    pixel = begin + tl.arange(0, BM)
    query, query_tail, query_low, query_tail_low = load_queries(keys, low, begin, D0, D1, BM, SPLIT_KEYS)
    to_logit = tl.load(inverse + pixel) * scale
    base = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    for first in range(tl.maximum(begin - reach, 0) // BN * BN, tl.minimum(begin + BM + reach, padded), BN):
        key = first + tl.arange(0, BN)
        row = tl.cast(key, tl.int64) * (D0 + D1)
        x = products(query, query_tail, query_low, query_tail_low, keys + row, low + row, D0, D1, SPLIT_KEYS)
        x = x * tl.load(inverse + key)[None, :] * to_logit[:, None]
        live = (tl.load(valid + key) != 0)[None, :] & (pixel[:, None] != key[None, :])
        x = tl.where(live, x, float("-inf"))
        most = tl.maximum(base, tl.max(x, 1))
        safe = tl.where(most == float("-inf"), 0.0, most)  # -inf less -inf would be no number
        total = total * tl.exp2(base - safe) + tl.sum(tl.exp2(x - safe[:, None]), 1)
        base = most
    alone = (total == 0) | (tl.load(valid + pixel) == 0)
    tl.store(largest + batch * padded + pixel, tl.where(alone, float("inf"), base))
    tl.store(inverse_sum + batch * padded + pixel, tl.where(alone, 0.0, 1 / tl.where(alone, 1.0, total)))


@triton.jit
def step(
    keys,  # [B, padded, D0 + D1]
    low,
    inverse,  # [B, padded]
    largest,  # [B, padded]
    inverse_sum,  # [B, padded]
    streams,  # [B, blocks] int8
    start,  # [B, padded, width]
    start_low,
    source,  # [B, padded, width]
    source_low,
    # output
    target,  # [B, padded, width]: alpha S source + (1 - alpha) start
    target_low,
    scale,
    alpha,
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
    SPLIT_KEYS: tl.constexpr,
    SPLIT_VALUES: tl.constexpr,
    CHOSEN: tl.constexpr,
    ADJOINT: tl.constexpr,
):
    batch = tl.program_id(2).to(tl.int64)
    begin = tl.program_id(0) * BM
    if CHOSEN:
        if tl.load(streams + batch * (padded // BLOCK) + begin // BLOCK) == 0:
            return
    channel = first_channel + tl.program_id(1) * (C0 + C1)
    keys += batch * padded * (D0 + D1)
    low += batch * padded * (D0 + D1)
    inverse += batch * padded
    largest += batch * padded
    inverse_sum += batch * padded
    source += batch * padded * width + channel
    source_low += batch * padded * width + channel
    pixel = begin + tl.arange(0, BM)
    query, query_tail, query_low, query_tail_low = load_queries(keys, low, begin, D0, D1, BM, SPLIT_KEYS)
    to_logit = tl.load(inverse + pixel) * scale
    row_largest = tl.load(largest + pixel)
    acc = tl.zeros([BM, C0], tl.float32)
    acc_tail = tl.zeros([BM, C1 if C1 > 0 else 1], tl.float32)
    # Only keys of the tiles around the queries are compared with them.
    own_begin = begin // BN * BN
    own_end = (begin + BM + BN - 1) // BN * BN
    for part in tl.static_range(3):
        for first in range(
            0 if part == 0 else (own_begin if part == 1 else own_end),
            own_begin if part == 0 else (own_end if part == 1 else padded),
            BN,
        ):
            key = first + tl.arange(0, BN)
            row = tl.cast(key, tl.int64) * (D0 + D1)
            x = products(query, query_tail, query_low, query_tail_low, keys + row, low + row, D0, D1, SPLIT_KEYS)
            x = x * tl.load(inverse + key)[None, :] * to_logit[:, None]
            if part == 1:
                x = tl.where(pixel[:, None] == key[None, :], float("-inf"), x)
            # The minimum, for an invalid key's weight must be finite for its value, zero, to count; and before the
            # difference, which made of a product not yet rounded would not fit the sums: those are of rounded logits.
            if ADJOINT:  # weights S_ji
                column_largest = tl.load(largest + key)[None, :]
                x = tl.minimum(x, column_largest) - column_largest
            else:
                x = tl.minimum(x, row_largest[:, None]) - row_largest[:, None]
            weight = tl.exp2(x + LIFT)
            if ADJOINT:
                weight = weight * tl.load(inverse_sum + key)[None, :]
            high = high_of(weight)
            weight_low = high
            if SPLIT_VALUES:
                weight_low = low_of(weight, high)
            row = tl.cast(key, tl.int64) * width
            acc = add_values(acc, high, weight_low, source + row, source_low + row, 0, C0, SPLIT_VALUES)
            if C1 > 0:
                acc_tail = add_values(acc_tail, high, weight_low, source + row, source_low + row, C0, C1, SPLIT_VALUES)
    share = tl.full([BM], UNLIFT, tl.float32)
    if not ADJOINT:
        share = share * tl.load(inverse_sum + pixel)
    row = (batch * padded + pixel) * width + channel
    store_step(acc, share, alpha, row, start, start_low, target, target_low, 0, C0, SPLIT_VALUES)
    if C1 > 0:
        store_step(acc_tail, share, alpha, row, start, start_low, target, target_low, C0, C1, SPLIT_VALUES)
