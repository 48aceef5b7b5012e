"""A look at every pair once, by half of the tiles: which pairs matter to whom, from row sums that are known before.

A tile of cosines serves its rows and its columns alike. For that, both must know what to look for before the look: the
sums over the pixels around a row bound the whole row's from below (DABNet at 180x320 in patches: by 0.05 bit in the
median, 1.1 at the 99th percentile), so that little more is kept than the whole sums would ask for. What is added up by
several programs is added up in integers, so that the order does not matter.

Eight-bit products would save little. On embeddings of DABNet 33 to 46 % of the tiles hold a pair that somebody looks
for at 90x160, 20 % at 180x320; with the margins of int8 37 to 51 and 23 %, and these would be made again in float16. At
half the price of a product that comes to 0.87 to 1.0 and 0.73 of float16's, before keys are fetched twice.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .select import GROUP, MOST_OFF, columns_of, number_of_columns, words_of
from .tiles import load_queries, products

# What a row drops is counted in parts of the tolerance. A pair is dropped for less than is kept at first, so that a
# row's N of them come to at most 40 tolerances, one over KEPT_PART: less than 2^24 parts, each held by a float32.
PARTS = tl.constexpr(2.0**18)


@triton.jit
def ordered(x):
    """Integers in the order of the numbers."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def number_of(ordered: Tensor) -> Tensor:
    """The numbers of which :func:`ordered` made integers; inf of -inf, and of the least integer, which is none's."""
    number = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return torch.where(number > -torch.inf, number, torch.inf)


@triton.jit
def parts_of(share, per_share):
    """Shares as whole parts, rounded up."""
    return tl.ceil(share * per_share).to(tl.int32)


@triton.jit
def screen(
    keys,  # [B, padded, D0 + D1] float16
    inverse,  # [B, padded]
    valid,  # [B, padded] int8
    off,  # [B] by twice this a cosine may be off
    base,  # [B, padded] log2 of the sum of exp2(scale * cosine), at least; inf in rows that are not to be looked at
    # in and out, from zeros (largest: from the least integer)
    lost,  # [B, padded] int32: shares dropped of exp2(base), in parts
    largest,  # [B, padded] int32: the largest logit among the pairs that anybody looks for, `ordered`
    bits,  # [B, groups, padded / 32] int32: columns of a group
    counts,  # [B, groups] int32: their number
    scale,
    log_see,  # log2 of the share that nobody looks for
    log_keep,  # log2 of the share from which on a pair is kept
    per_share,  # parts that are a share of 1
    padded,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BM: tl.constexpr,  # pixels of a tile's side, a multiple of GROUP
    BN: tl.constexpr,  # of those the columns taken at once, a multiple of GROUP too
):
    batch = tl.program_id(2).to(tl.int64)
    mine = tl.program_id(0)
    margin = 2 * tl.load(off + batch) * scale
    if margin > MOST_OFF:
        return
    tiles, groups, words = padded // BM, padded // GROUP, padded // 32
    keys += batch * padded * (D0 + D1)
    inverse += batch * padded
    valid += batch * padded
    base += batch * padded
    lost += batch * padded
    largest += batch * padded
    bits += batch * groups * words
    counts += batch * groups

    place = tl.arange(0, 32)
    pixel = mine * BM + tl.arange(0, BM)
    row_group = mine * (BM // GROUP) + tl.arange(0, BM // GROUP)
    row_word = mine * (BM // 32) + tl.arange(0, BM // 32)
    row_out = tl.where(tl.load(valid + pixel) != 0, 0.0, float("-inf"))
    row_base = tl.load(base + pixel)
    to_logit = tl.load(inverse + pixel) * scale
    query, query_tail, _, _ = load_queries(keys, keys, mine * BM, D0, D1, BM, False)
    row_lost = tl.zeros([BM], tl.float32)
    row_largest = tl.full([BM], float("-inf"), tl.float32)
    row_count = tl.zeros([BM // GROUP], tl.int32)
    # Two tiles of pixels meet once: the next half of all, around. Opposite ones, where their number is even, meet at
    # the lower one's.
    met = (tiles + 1) // 2
    if (tiles % 2 == 0) & (mine < tiles // 2):
        met += 1
    turns = tl.cdiv(tiles // 2 + 1, tl.num_programs(1))
    begin = tl.program_id(1) * turns
    tl.static_assert(BM % BN == 0)
    PIECES: tl.constexpr = BM // BN
    for piece in range(begin * PIECES, tl.minimum(begin + turns, met) * PIECES):
        turn = piece // PIECES
        first = (mine + turn) % tiles * BM + piece % PIECES * BN
        key = first + tl.arange(0, BN)
        at = keys + tl.cast(key, tl.int64) * (D0 + D1)
        x = products(query, query_tail, query, query, at, at, D0, D1, False)
        x = x * tl.load(inverse + key)[None, :] * to_logit[:, None]
        key_base = tl.load(base + key)
        seen_from = tl.minimum(row_base[:, None], key_base[None, :]) + (log_see - margin)
        # Most tiles of a large map hold nothing that anybody looks for, and are left at this.
        if tl.max(x - seen_from) >= 0:
            x += row_out[:, None] + tl.where(tl.load(valid + key) != 0, 0.0, float("-inf"))[None, :]
            if turn == 0:
                x = tl.where(pixel[:, None] == key[None, :], float("-inf"), x)
            weight = x - row_base[:, None]
            word = words_of((weight >= log_keep - margin).to(tl.int32))
            row_lost += tl.sum(tl.where(columns_of(word, BM) > 0, 0.0, tl.exp2(weight)), 1)
            row_largest = tl.maximum(row_largest, tl.max(x, 1))
            row_count += number_of_columns(word)
            to = row_group.to(tl.int64)[:, None] * words + first // 32 + tl.arange(0, BN // 32)[None, :]
            tl.store(bits + to, word)
            if turn > 0:
                key_weight = x - key_base[None, :]
                key_wanted = (key_weight >= log_keep - margin).to(tl.int32)
                key_chosen = tl.max(tl.reshape(key_wanted, (BM, BN // GROUP, GROUP)), 2)  # [BM, groups]
                for_keys = tl.broadcast_to(key_chosen[:, :, None], (BM, BN // GROUP, GROUP))
                key_lost = tl.sum(tl.where(tl.reshape(for_keys, (BM, BN)) > 0, 0.0, tl.exp2(key_weight)), 0)
                tl.atomic_add(lost + key, parts_of(key_lost, per_share), sem="relaxed")
                tl.atomic_max(largest + key, ordered(tl.max(x, 0)), sem="relaxed")
                key_group = first // GROUP + tl.arange(0, BN // GROUP)
                tl.atomic_add(counts + key_group, tl.sum(key_chosen, 0), sem="relaxed")
                places = tl.reshape(key_chosen, (BM // 32, 32, BN // GROUP)) << place[None, :, None]
                tl.store(bits + key_group.to(tl.int64)[None, :] * words + row_word[:, None], tl.sum(places, 1))
    tl.atomic_add(lost + pixel, parts_of(row_lost, per_share), sem="relaxed")
    tl.atomic_max(largest + pixel, ordered(row_largest), sem="relaxed")
    tl.atomic_add(counts + row_group, row_count, sem="relaxed")
