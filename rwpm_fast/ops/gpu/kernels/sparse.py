"""The walk on the pairs that were kept: exact weights for groups of rows and their columns, and the step."""

from __future__ import annotations

import triton
import triton.language as tl

from .exact import LIFT
from .tiles import LOW, add_values, high_of, load_queries, low_of, products, store_step


@triton.jit
def weigh(
    keys,  # [B, padded, D0 + D1]
    low,
    inverse,  # [B, padded]
    valid,  # [B, padded] int8
    largest_logit,  # [B, padded] scale * cosine, at most
    begins,  # [B * groups] int64: where a group's list begins, -1 for a group that streams
    counts,  # [B * groups] int32
    columns,  # [capacity] int32
    # output
    weights,  # [capacity / PAGE, GROUP, PAGE] by 2^LIFT too large
    weights_low,
    inverse_sum,  # [B, padded] one over the sum of a row's weights as they stand there
    scale,
    padded,
    D0: tl.constexpr,
    D1: tl.constexpr,
    GROUP: tl.constexpr,
    PAGE: tl.constexpr,
    BM: tl.constexpr,  # rows of a group that a program takes
    BN: tl.constexpr,  # columns of a page that it takes at once
    SPLIT_KEYS: tl.constexpr,
    SPLIT_VALUES: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    begin = tl.load(begins + group)
    if begin < 0:
        return
    groups = padded // GROUP
    batch = group // groups
    keys += batch * padded * (D0 + D1)
    low += batch * padded * (D0 + D1)
    inverse += batch * padded
    valid += batch * padded
    in_group = tl.program_id(1) * BM + tl.arange(0, BM)
    pixel = (group % groups).to(tl.int32) * GROUP + in_group
    counted = tl.load(valid + pixel) != 0
    first_pixel = (group % groups) * GROUP + tl.program_id(1) * BM
    query, query_tail, query_low, query_tail_low = load_queries(keys, low, first_pixel, D0, D1, BM, SPLIT_KEYS)
    to_logit = tl.load(inverse + pixel) * scale
    row_largest = tl.load(largest_logit + batch * padded + pixel)
    count = tl.load(counts + group)
    slot = tl.arange(0, BN)
    in_page = in_group[:, None] * PAGE + slot[None, :]
    total = tl.zeros([BM], tl.float32)
    for first in range(0, tl.cdiv(count, PAGE) * PAGE, BN):
        key = tl.load(columns + begin + first + slot)
        row = key.to(tl.int64) * (D0 + D1)
        x = products(query, query_tail, query_low, query_tail_low, keys + row, low + row, D0, D1, SPLIT_KEYS)
        x = x * tl.load(inverse + key)[None, :] * to_logit[:, None]
        live = (first + slot < count)[None, :] & (pixel[:, None] != key[None, :]) & counted[:, None]
        x = tl.where(live, tl.minimum(x - row_largest[:, None], 0.0), float("-inf"))
        exact = tl.exp2(x + LIFT)
        at = (begin + first // PAGE * PAGE) * GROUP + first % PAGE + in_page
        high = high_of(exact)
        tl.store(weights + at, high)
        weight = high.to(tl.float32)
        if SPLIT_VALUES:
            rest = low_of(exact, high)
            tl.store(weights_low + at, rest)
            weight += rest.to(tl.float32) * LOW
        total += tl.sum(weight, 1)
    to = inverse_sum + batch * padded + pixel
    tl.store(to, tl.where(total > 0, 1 / tl.where(total > 0, total, 1.0), 0.0))


@triton.jit
def step(
    order,  # [B * groups] int64: the groups, those with the longest lists first
    begins,  # [B * groups] int64
    counts,  # [B * groups] int32
    columns,  # [capacity] int32
    weights,  # [capacity / PAGE, GROUP, PAGE]
    weights_low,
    inverse_sum,  # [B, padded]
    start,  # [B, padded, width]
    start_low,
    source,  # [B, padded, width]
    source_low,
    # output
    target,  # [B, padded, width]: alpha S source + (1 - alpha) start, in the groups that have a list
    target_low,
    alpha,
    padded,
    width,
    first_channel,
    C0: tl.constexpr,
    C1: tl.constexpr,
    GROUP: tl.constexpr,
    PAGE: tl.constexpr,
    SPLIT: tl.constexpr,
):
    group = tl.load(order + tl.program_id(0))
    begin = tl.load(begins + group)
    if begin < 0:
        return
    channel = first_channel + tl.program_id(1) * (C0 + C1)
    groups = padded // GROUP
    batch = group // groups
    source += batch * padded * width + channel
    source_low += batch * padded * width + channel
    count = tl.load(counts + group)
    slot = tl.arange(0, PAGE)
    in_page = tl.arange(0, GROUP)[:, None] * PAGE + slot[None, :]
    acc = tl.zeros([GROUP, C0], tl.float32)
    acc_tail = tl.zeros([GROUP, C1 if C1 > 0 else 1], tl.float32)
    for first in range(0, count, PAGE):
        row = tl.load(columns + begin + first + slot).to(tl.int64) * width
        weight = tl.load(weights + (begin + first) * GROUP + in_page)
        weight_low = weight
        if SPLIT:
            weight_low = tl.load(weights_low + (begin + first) * GROUP + in_page)
        acc = add_values(acc, weight, weight_low, source + row, source_low + row, 0, C0, SPLIT)
        if C1 > 0:
            acc_tail = add_values(acc_tail, weight, weight_low, source + row, source_low + row, C0, C1, SPLIT)
    pixel = batch * padded + (group % groups) * GROUP + tl.arange(0, GROUP)
    share = tl.load(inverse_sum + pixel)
    row = pixel * width + channel
    store_step(acc, share, alpha, row, start, start_low, target, target_low, 0, C0, SPLIT)
    if C1 > 0:
        store_step(acc_tail, share, alpha, row, start, start_low, target, target_low, C0, C1, SPLIT)
