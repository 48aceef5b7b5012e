"""How channels and pixels are cut into tiles, and the products of tiles that the kernels are made of."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

# Pixels are padded to whole blocks, which every tile of pixels divides.
BLOCK = 128
MAX_CHANNELS = 512  # of an embedding: a tile of queries stays on the chip
CHANNEL_TILE = 256  # float16 of a pixel's value that one program carries, and up to MAX_TAIL channels more
MAX_TAIL = 32
MIN_SIDE = 16  # of a matrix instruction


def power_of_two(size: int) -> int:
    """Return the smallest power of two that is not less than ``size``."""
    return 1 << max(size - 1, 0).bit_length()


def split_channels(channels: int) -> tuple[int, int]:
    """Two powers of two, of which the second may be 0, that hold channels: 259 become 256 + 16 and not 512."""
    if channels <= MIN_SIDE:
        return MIN_SIDE, 0
    main = power_of_two(channels + 1) // 2
    rest = channels - main
    tail = max(MIN_SIDE, power_of_two(rest)) if rest else 0
    return (main, tail) if tail < main else (2 * main, 0)


class ChannelTiles(NamedTuple):
    """Value channels of one launch: ``tiles`` channel tiles of ``main + tail`` channels, from channel ``first`` on."""

    first: int
    tiles: int
    main: int
    tail: int

    @property
    def end(self) -> int:
        return self.first + self.tiles * (self.main + self.tail)


def channel_tiles(channels: int, halves: int) -> list[ChannelTiles]:
    """Launches that cover value channels: 19 -> 32; 259 -> 256 + 16; 300 -> 256, 32 + 16.

    Of values in two halves a program carries half as many channels: the products with low halves are summed
    separately, in as many registers.
    """
    most = CHANNEL_TILE // halves
    whole, rest = divmod(channels, most)
    if whole and 0 < rest <= MAX_TAIL:
        tail = max(MIN_SIDE, power_of_two(rest))
        last = ChannelTiles((whole - 1) * most, 1, most, tail)
        return ([ChannelTiles(0, whole - 1, most, 0)] if whole > 1 else []) + [last]
    launches = [ChannelTiles(0, whole, most, 0)] if whole else []
    if rest:
        main, tail = split_channels(rest)
        # A separate tail only where it is small compared with its main part, as with whole tiles.
        launches.append(ChannelTiles(whole * most, 1, *((main, tail) if tail <= MAX_TAIL else (2 * main, 0))))
    return launches


def padded_pixels(pixels: int) -> int:
    """Pixels in whole blocks."""
    return triton.cdiv(pixels, BLOCK) * BLOCK


# A float32 is split into two float16 of which the second counts 2^-11: 22 bits, whose products are three products of
# float16. That is as exact as float32 where a row's or channel's largest element is near 1, and on matrix units it is
# twice as fast as three products of TF32.
LOW_UNIT = tl.constexpr(2.0**-11)


@triton.jit
def high_half(b_x):
    """Round float32 to float16."""
    return b_x.to(tl.float16)


@triton.jit
def low_half(b_x, b_high):
    """Return what that rounding took, (x - high) / LOW_UNIT, as float16."""
    return ((b_x - b_high.to(tl.float32)) * 2048.0).to(tl.float16)


@triton.jit
def load_rows(
    p_table, i_row, ROWS: tl.constexpr, FIRST_CHANNEL: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr
):
    """[ROWS, CHANNELS] of a table [.., WIDTH], from row ``i_row`` on."""
    o_in_tile = tl.arange(0, ROWS)
    o_channel = FIRST_CHANNEL + tl.arange(0, CHANNELS)
    return tl.load(p_table + tl.cast(i_row, tl.int64) * WIDTH + o_in_tile[:, None] * WIDTH + o_channel[None, :])


@triton.jit
def multiply(b_left, b_left_low, b_right, b_right_low, b_acc, LEFT_HAS_LOW: tl.constexpr, RIGHT_HAS_LOW: tl.constexpr):
    """b_acc + b_left @ b_right, float32, of numbers in one half or two."""
    if LEFT_HAS_LOW or RIGHT_HAS_LOW:
        b_rest = tl.zeros_like(b_acc)
        if LEFT_HAS_LOW:
            b_rest = tl.dot(b_left_low, b_right, b_rest)
        if RIGHT_HAS_LOW:
            b_rest = tl.dot(b_left, b_right_low, b_rest)
        b_acc += b_rest * LOW_UNIT
    return tl.dot(b_left, b_right, b_acc)


@triton.jit
def load_queries(
    p_keys, p_keys_low, i_row, D0: tl.constexpr, D1: tl.constexpr, BM: tl.constexpr, HAS_LOW: tl.constexpr
):
    """A tile of queries in four parts: main, tail, and the low halves of both. A part that does not exist repeats
    another."""
    b_main = load_rows(p_keys, i_row, BM, 0, D0, D0 + D1)
    b_tail, b_main_low, b_tail_low = b_main, b_main, b_main
    if D1 > 0:
        b_tail = load_rows(p_keys, i_row, BM, D0, D1, D0 + D1)
    if HAS_LOW:
        b_main_low = load_rows(p_keys_low, i_row, BM, 0, D0, D0 + D1)
        if D1 > 0:
            b_tail_low = load_rows(p_keys_low, i_row, BM, D0, D1, D0 + D1)
    return b_main, b_tail, b_main_low, b_tail_low


@triton.jit
def products(
    b_query,  # [BM, D0]; these four are what load_queries returns
    b_query_tail,  # [BM, D1]
    b_query_low,  # [BM, D0]
    b_query_tail_low,  # [BM, D1]
    p_key,  # [BN] pointers to the rows of keys
    p_key_low,  # [BN] and to their low halves
    D0: tl.constexpr,
    D1: tl.constexpr,
    HAS_LOW: tl.constexpr,
):
    """Return the dot products of a query tile with BN keys, before inv_norm: [BM, BN], float32."""
    p_main = p_key[None, :] + tl.arange(0, D0)[:, None]
    p_main_low = p_key_low[None, :] + tl.arange(0, D0)[:, None]
    b_key = tl.load(p_main)
    b_key_low = b_key
    if HAS_LOW:
        b_key_low = tl.load(p_main_low)
    b_product = tl.zeros([b_query.shape[0], p_key.shape[0]], tl.float32)
    b_product = multiply(b_query, b_query_low, b_key, b_key_low, b_product, HAS_LOW, HAS_LOW)
    if D1 > 0:
        p_tail = p_key[None, :] + D0 + tl.arange(0, D1)[:, None]
        b_key_tail = tl.load(p_tail)
        b_key_tail_low = b_key_tail
        if HAS_LOW:
            b_key_tail_low = tl.load(p_key_low[None, :] + D0 + tl.arange(0, D1)[:, None])
        b_product = multiply(b_query_tail, b_query_tail_low, b_key_tail, b_key_tail_low, b_product, HAS_LOW, HAS_LOW)
    return b_product


@triton.jit
def add_values(
    b_acc, b_weight, b_weight_low, p_value, p_value_low, FIRST: tl.constexpr, C: tl.constexpr, HAS_LOW: tl.constexpr
):
    """b_acc [BM, C] + b_weight [BM, BN] @ values: of the rows [BN] at p_value the channels from FIRST on."""
    o_channel = FIRST + tl.arange(0, C)
    b_value = tl.load(p_value[:, None] + o_channel[None, :])
    b_value_low = b_value
    if HAS_LOW:
        b_value_low = tl.load(p_value_low[:, None] + o_channel[None, :])
    return multiply(b_weight, b_weight_low, b_value, b_value_low, b_acc, HAS_LOW, HAS_LOW)


@triton.jit
def store_step(
    b_acc,  # [BM, C] sums of weights times values, before they are multiplied by b_factor
    b_factor,  # [BM]
    b_alpha,  # [BM]
    o_first,  # [BM] int64: offset of a row's first channel
    p_start,
    p_start_low,
    p_target,
    p_target_low,
    FIRST: tl.constexpr,
    C: tl.constexpr,
    HAS_LOW: tl.constexpr,
):
    """Store b_alpha * b_factor * b_acc + (1 - b_alpha) * start."""
    o_value = o_first[:, None] + FIRST + tl.arange(0, C)[None, :]
    b_start = tl.load(p_start + o_value).to(tl.float32)
    if HAS_LOW:
        b_start += tl.load(p_start_low + o_value).to(tl.float32) * LOW_UNIT
    b_result = b_alpha[:, None] * b_factor[:, None] * b_acc + (1 - b_alpha)[:, None] * b_start
    b_high = high_half(b_result)
    tl.store(p_target + o_value, b_high)
    if HAS_LOW:
        tl.store(p_target_low + o_value, low_half(b_result, b_high))
