"""Which pairs matter to rows that look again, and the lists of columns that groups of rows keep.

GROUP pixels that follow each other keep their columns together: neighbors resemble the same pixels, so the union is
little larger than what one of them needs, its weights are a dense block for the matrix units, and a value is fetched
once for all. What a row drops is summed up while looking, so that its share is known and not only bounded.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import load_queries, products

# Bits by which rounded logits may be off; beyond, at temperatures far below 0.001, there is nothing to choose by.
MOST_OFF = tl.constexpr(8.0)

GROUP = tl.constexpr(64)  # rows that share their columns
PAGE = tl.constexpr(64)  # columns of a block of weights; a list is padded to whole pages


@triton.jit
def words_of(wanted):
    """Of pairs [rows, columns], 1 or 0, words [groups, columns / 32] of the columns that any row of a group wants."""
    ROWS: tl.constexpr = wanted.shape[0]
    WORDS: tl.constexpr = wanted.shape[1] // 32
    place = tl.arange(0, 32)
    words = tl.sum(tl.reshape(wanted, (ROWS, WORDS, 32)) << place[None, None, :], 2)
    return tl.reduce_or(tl.reshape(words, (ROWS // GROUP, GROUP, WORDS)), 1)


@triton.jit
def columns_of(words, ROWS: tl.constexpr):
    """The columns of words [groups, columns / 32] for every row of the groups, [rows, columns], 1 or 0."""
    WORDS: tl.constexpr = words.shape[1]
    for_rows = tl.broadcast_to(words[:, None, :], (ROWS // GROUP, GROUP, WORDS))
    bits = (tl.reshape(for_rows, (ROWS, WORDS))[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
    return tl.reshape(bits, (ROWS, WORDS * 32))


@triton.jit
def number_of_columns(words):
    """Of words [groups, columns / 32], [groups]."""
    return tl.sum(tl.sum((words[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1, 2), 1)


@triton.jit
def select(
    keys,  # [B, padded, D0 + D1] float16
    inverse,  # [B, padded]
    valid,  # [B, padded] int8
    off,  # [B] by twice this a cosine may be off
    # in and out
    keep,  # [B, padded] log2 of the share of its row from which on a pair is kept
    dropped,  # [B, padded] share of its mass that a row drops, at most; inf where nobody knows yet
    largest_logit,  # [B, padded] scale * cosine, at most; inf where there is none
    bits,  # [B, groups, padded / 32] int32: columns of a group
    counts,  # [B, groups] int32: their number
    scale,
    log_see,  # log2 of the share that nobody looks for
    log_tolerance,
    pixels,
    padded,
    last_pass,  # rows that dropped too much keep all that they see
    D0: tl.constexpr,
    D1: tl.constexpr,
    BM: tl.constexpr,  # a multiple of GROUP
    BN: tl.constexpr,  # a multiple of 32
):
    batch = tl.program_id(1).to(tl.int64)
    begin = tl.program_id(0) * BM
    keys += batch * padded * (D0 + D1)
    inverse += batch * padded
    valid += batch * padded
    row = batch * padded + begin + tl.arange(0, BM)
    pixel = begin + tl.arange(0, BM)
    counted = tl.load(valid + pixel) != 0
    kept_from = tl.load(keep + row)
    # Cosines may be off by 2 off: a pair is kept when it may weigh enough, a dropped one counts as all that it may be.
    margin = 2 * tl.load(off + batch) * scale
    group = batch * (padded // GROUP) + begin // GROUP + tl.arange(0, BM // GROUP)
    if margin > MOST_OFF:
        tl.store(dropped + row, tl.where(counted, float("inf"), 0.0))
        tl.store(counts + group, tl.zeros([BM // GROUP], tl.int32))
        return
    lost = tl.load(dropped + row)
    # What a row drops goes with what it keeps, about; twice as much to be sure.
    excess = tl.log2(tl.maximum(lost, 1e-37)) - log_tolerance
    wide = counted & (excess > 0)
    if tl.max(wide.to(tl.int32), 0) == 0:
        return
    lower = tl.where(last_pass != 0, log_see, tl.maximum(kept_from - excess - 1, log_see))
    kept_from = tl.where(wide & (lost < float("inf")), lower, kept_from)
    tl.store(keep + row, kept_from)

    query, query_tail, _, _ = load_queries(keys, keys, begin, D0, D1, BM, False)
    to_logit = tl.load(inverse + pixel) * scale
    largest = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    lost = tl.zeros([BM], tl.float32)
    count = tl.zeros([BM // GROUP], tl.int32)
    words = padded // 32
    to = bits + group[:, None] * words + tl.arange(0, BN // 32)[None, :]
    tiles = padded // BN
    # From the queries' own tile on and around: neighbors come first, and after them the sum is known well enough.
    for turn in range(0, tiles):
        first = (begin // BN + turn) % tiles * BN
        key = first + tl.arange(0, BN)
        at = keys + tl.cast(key, tl.int64) * (D0 + D1)
        x = products(query, query_tail, query, query, at, at, D0, D1, False)
        x = x * tl.load(inverse + key)[None, :] * to_logit[:, None]
        base = tl.where(total > 0, largest + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf"))
        seen_from = tl.where(counted, base + log_see - margin, float("inf"))
        word = tl.zeros([BM // GROUP, BN // 32], tl.int32)
        # Most tiles hold nothing that anybody looks for, and are left at this.
        if tl.max(x - seen_from[:, None]) >= 0:
            live = (tl.load(valid + key) != 0)[None, :] & (pixel[:, None] != key[None, :]) & counted[:, None]
            x = tl.where(live, x, float("-inf"))
            most = tl.maximum(largest, tl.max(x, 1))
            safe = tl.where(most == float("-inf"), 0.0, most)  # -inf less -inf would be no number
            weight = tl.exp2(x - safe[:, None])
            shrink = tl.exp2(largest - safe)
            total = total * shrink + tl.sum(weight, 1)
            largest = most
            bound = safe + tl.log2(tl.where(total > 0, total, 1.0)) + kept_from - margin
            word = words_of((live & (x >= bound[:, None])).to(tl.int32))
            lost = lost * shrink + tl.sum(tl.where(columns_of(word, BM) > 0, 0.0, weight), 1)
            count += number_of_columns(word)
        tl.store(to + first // 32, word)
    alone = (total == 0) | (counted == 0)
    share = lost / tl.where(alone, 1.0, total) * tl.exp2(2 * margin) + pixels * tl.exp2(log_see)
    tl.store(dropped + row, tl.where(alone, 0.0, share))
    tl.store(largest_logit + row, tl.where(alone, float("inf"), largest + margin))
    tl.store(counts + group, count)


@triton.jit
def list_columns(
    bits,  # [B * groups, words]
    counts,  # [B * groups]
    begins,  # [B * groups] int64: where a group's list begins, -1 for a group that has none
    # output
    columns,  # [capacity] int32: a group's pixels in order, then its list's padding
    words,
    WORDS: tl.constexpr,
    PAGE: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    begin = tl.load(begins + group)
    if begin < 0:
        return
    done = 0
    place = tl.arange(0, WORDS * 32)
    for first in range(0, words, WORDS):
        at = first + place // 32
        word = tl.load(bits + group * words + at, mask=at < words, other=0)
        bit = (word >> (place % 32)) & 1
        if tl.max(bit, 0) > 0:
            rank = tl.cumsum(bit, 0) - bit
            tl.store(columns + begin + done + rank, first * 32 + place, mask=bit > 0)
            done += tl.sum(bit, 0)
    count = tl.load(counts + group)
    slot = count + tl.arange(0, PAGE)
    tl.store(columns + begin + slot, tl.zeros([PAGE], tl.int32), mask=slot < tl.cdiv(count, PAGE) * PAGE)
