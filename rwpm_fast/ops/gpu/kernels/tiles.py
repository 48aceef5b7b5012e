"""How channels and pixels are cut into tiles, and the products of tiles that the kernels are made of."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

# Pixels are padded to whole blocks, which every tile of pixels divides.
BLOCK = 128
MOST_CHANNELS = 512  # of an embedding: a tile of queries stays on the chip
PANEL = 256  # float16 of a pixel's value that one program carries, and of at most TAIL channels more
TAIL = 32
NARROWEST = 16  # side of a matrix instruction


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least ``size``."""
    return 1 << max(size - 1, 0).bit_length()


def split(channels: int) -> tuple[int, int]:
    """Two powers of two, the second may be 0, that hold channels: 259 become 256 + 16 and not 512."""
    if channels <= NARROWEST:
        return NARROWEST, 0
    main = power_of_two(channels + 1) // 2
    rest = channels - main
    tail = max(NARROWEST, power_of_two(rest)) if rest else 0
    return (main, tail) if tail < main else (2 * main, 0)


class Panel(NamedTuple):
    """Value channels that one launch takes: ``count`` runs of ``main + tail`` channels, from ``first`` on."""

    first: int
    count: int
    main: int
    tail: int

    @property
    def end(self) -> int:
        return self.first + self.count * (self.main + self.tail)


def panels(channels: int, parts: int) -> list[Panel]:
    """Launches that cover value channels: 19 -> 32; 259 -> 256 + 16; 300 -> 256, 64. Of values in two parts a program
    carries half as many: the products with second parts are summed beside the others, in as many registers."""
    most = PANEL // parts
    whole, rest = divmod(channels, most)
    if whole and 0 < rest <= TAIL:
        tail = max(NARROWEST, power_of_two(rest))
        return ([Panel(0, whole - 1, most, 0)] if whole > 1 else []) + [Panel((whole - 1) * most, 1, most, tail)]
    cut = [Panel(0, whole, most, 0)] if whole else []
    if rest:
        main, tail = split(rest)
        # A tail of its own only where it is small beside its main part, as with whole panels.
        cut.append(Panel(whole * most, 1, *((main, tail) if tail <= TAIL else (2 * main, 0))))
    return cut


def padded_pixels(pixels: int) -> int:
    """Pixels in whole blocks."""
    return triton.cdiv(pixels, BLOCK) * BLOCK


# A float32 is split in two float16 of which the second counts 2^-11: 22 bits, whose products are three products of
# float16. That is as exact as float32 where a row's or channel's largest element is near 1, and on matrix units it is
# twice as fast as three products of TF32.
LOW = tl.constexpr(2.0**-11)


@triton.jit
def high_of(x):
    return x.to(tl.float16)


@triton.jit
def low_of(x, high):
    return ((x - high.to(tl.float32)) * 2048.0).to(tl.float16)


@triton.jit
def rows_of(table, first, ROWS: tl.constexpr, FIRST_CHANNEL: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """[ROWS, CHANNELS] of a table [.., WIDTH], from row ``first`` on."""
    row = tl.arange(0, ROWS)
    channel = FIRST_CHANNEL + tl.arange(0, CHANNELS)
    return tl.load(table + tl.cast(first, tl.int64) * WIDTH + row[:, None] * WIDTH + channel[None, :])


@triton.jit
def multiply(a, a_low, b, b_low, acc, SPLIT_A: tl.constexpr, SPLIT_B: tl.constexpr):
    """acc + a @ b, float32, of float16 that are split or not."""
    if SPLIT_A or SPLIT_B:
        rest = tl.zeros_like(acc)
        if SPLIT_A:
            rest = tl.dot(a_low, b, rest)
        if SPLIT_B:
            rest = tl.dot(a, b_low, rest)
        acc += rest * LOW
    return tl.dot(a, b, acc)


@triton.jit
def load_queries(keys, low, first, D0: tl.constexpr, D1: tl.constexpr, BM: tl.constexpr, SPLIT: tl.constexpr):
    """A tile of queries in four parts, of which those that there are not repeat others: main, tail, and their lows."""
    main = rows_of(keys, first, BM, 0, D0, D0 + D1)
    tail, main_low, tail_low = main, main, main
    if D1 > 0:
        tail = rows_of(keys, first, BM, D0, D1, D0 + D1)
    if SPLIT:
        main_low = rows_of(low, first, BM, 0, D0, D0 + D1)
        if D1 > 0:
            tail_low = rows_of(low, first, BM, D0, D1, D0 + D1)
    return main, tail, main_low, tail_low


@triton.jit
def products(
    query,  # four parts, [BM, D0] and [BM, D1]
    query_tail,
    query_low,
    query_tail_low,
    row,  # [BN] pointers to the rows of keys
    row_low,  # [BN] and to their lows
    D0: tl.constexpr,
    D1: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Products of a tile of queries with keys: [BM, BN], float32."""
    main = row[None, :] + tl.arange(0, D0)[:, None]
    main_low = row_low[None, :] + tl.arange(0, D0)[:, None]
    key = tl.load(main)
    key_low = key
    if SPLIT:
        key_low = tl.load(main_low)
    product = tl.zeros([query.shape[0], row.shape[0]], tl.float32)
    product = multiply(query, query_low, key, key_low, product, SPLIT, SPLIT)
    if D1 > 0:
        tail = row[None, :] + D0 + tl.arange(0, D1)[:, None]
        key_tail = tl.load(tail)
        key_tail_low = key_tail
        if SPLIT:
            key_tail_low = tl.load(row_low[None, :] + D0 + tl.arange(0, D1)[:, None])
        product = multiply(query_tail, query_tail_low, key_tail, key_tail_low, product, SPLIT, SPLIT)
    return product


@triton.jit
def add_values(acc, weight, weight_low, row, row_low, FIRST: tl.constexpr, C: tl.constexpr, SPLIT: tl.constexpr):
    """acc [BM, C] + weight [BM, BN] @ values, of rows' pointers [BN] the channels from FIRST on."""
    channel = FIRST + tl.arange(0, C)
    value = tl.load(row[:, None] + channel[None, :])
    value_low = value
    if SPLIT:
        value_low = tl.load(row_low[:, None] + channel[None, :])
    return multiply(weight, weight_low, value, value_low, acc, SPLIT, SPLIT)


@triton.jit
def store_step(
    acc,  # [BM, C] transition of the values, times one over share
    share,  # [BM]
    alpha,
    row,  # [BM] int64: offset of a row's first channel
    start,
    start_low,
    target,
    target_low,
    FIRST: tl.constexpr,
    C: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Stores alpha * share * acc + (1 - alpha) * start."""
    at = row[:, None] + FIRST + tl.arange(0, C)[None, :]
    begun = tl.load(start + at).to(tl.float32)
    if SPLIT:
        begun += tl.load(start_low + at).to(tl.float32) * LOW
    result = alpha * share[:, None] * acc + (1 - alpha) * begun
    high = high_of(result)
    tl.store(target + at, high)
    if SPLIT:
        tl.store(target_low + at, low_of(result, high))
