"""What the kernels read, made of what the user gives: any strides, any floating dtype, pixels that are no numbers."""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import high_of, low_of


@triton.jit
def pack_embeddings(
    embeddings,  # [B, pixels, channels] by strides
    mask,  # [B, pixels] by strides, int8
    # output
    keys,  # [B, padded, WIDTH]; zero in rows that are invalid. Where SPLIT unit embeddings, else rows times a power of
    # two that brings their largest element into [1, 2), so that no digit is lost
    low,  # the same: what rounding to float16 took from `keys`
    off,  # [B, padded] the norm of that
    inverse,  # [B, padded] 1 / norm of a row of keys, 0 if invalid
    valid,  # [B, padded] int8
    pixels,
    padded,
    channels,
    batch_stride,
    pixel_stride,
    channel_stride,
    mask_batch_stride,
    mask_pixel_stride,
    MASKED: tl.constexpr,
    SPLIT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,  # a power of two, at least WIDTH
    ROWS: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    at = batch * batch_stride + pixel[:, None].to(tl.int64) * pixel_stride + channel[None, :] * channel_stride
    inside = (pixel[:, None] < pixels) & (channel[None, :] < channels)
    x = tl.load(embeddings + at, mask=inside, other=0).to(tl.float32)  # [ROWS, CHANNELS]

    size = tl.abs(x)
    good = (pixel < pixels) & (tl.min((size < float("inf")).to(tl.int32), 1) > 0)  # no number compares false
    if MASKED:
        at = batch * mask_batch_stride + pixel.to(tl.int64) * mask_pixel_stride
        good = good & (tl.load(mask + at, mask=pixel < pixels, other=0) != 0)
    x = tl.where(good[:, None], x, 0.0)
    largest = tl.max(tl.where(good[:, None], size, 0.0), 1)
    # 2^-exponent from the bits; at the ends of the range the element comes into [2, 4) or stays below 1.
    exponent = largest.to(tl.int32, bitcast=True) >> 23
    factor = (tl.minimum(tl.maximum(254 - exponent, 1), 254) << 23).to(tl.float32, bitcast=True)
    x = x * factor[:, None]
    if SPLIT:
        # In float64: what is wrong with a norm is wrong with all cosines of the pixel, and does not average out.
        wide = x.to(tl.float64)
        norm = tl.maximum(tl.sqrt(tl.sum(wide * wide, 1)), 1e-12 * factor.to(tl.float64))
        x = (wide / norm[:, None]).to(tl.float32)
        one_over = tl.where(good, 1.0, 0.0)
    else:
        norm = tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-12 * factor)
        one_over = tl.where(good, 1 / norm, 0.0)

    row = batch * padded + pixel
    stored = (pixel[:, None] < padded) & (channel[None, :] < WIDTH)
    to = row[:, None] * WIDTH + channel[None, :]
    high = high_of(x)
    tl.store(keys + to, high, mask=stored)
    tl.store(inverse + row, one_over, mask=pixel < padded)
    tl.store(valid + row, good.to(tl.int8), mask=pixel < padded)
    if SPLIT:
        rest = x - high.to(tl.float32)
        tl.store(low + to, low_of(x, high), mask=stored)
        tl.store(off + row, tl.sqrt(tl.sum(rest * rest, 1)), mask=pixel < padded)


@triton.jit
def pack_values(
    values,  # [B, pixels, channels] by strides
    factor,  # [B, channels] float32
    valid,  # [B, padded] int8; cleared where a value is not finite if CHECK
    # output
    state,  # [B, padded, width] values times factor, zero if invalid and in channels beyond
    state_low,
    pixels,
    padded,
    channels,
    width,
    batch_stride,
    pixel_stride,
    channel_stride,
    CHECK: tl.constexpr,
    SPLIT: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,  # that one round takes
):
    batch = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row = batch * padded + pixel
    at = values + batch * batch_stride + pixel[:, None].to(tl.int64) * pixel_stride
    good = tl.load(valid + row, mask=pixel < padded, other=0) != 0
    if CHECK:
        for first in range(0, channels, CHANNELS):
            channel = first + tl.arange(0, CHANNELS)
            inside = (pixel[:, None] < pixels) & (channel[None, :] < channels)
            x = tl.load(at + channel[None, :] * channel_stride, mask=inside, other=0).to(tl.float32)
            good = good & (tl.min((tl.abs(x) < float("inf")).to(tl.int32), 1) > 0)
        tl.store(valid + row, good.to(tl.int8), mask=pixel < padded)
    for first in range(0, width, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)
        inside = (pixel[:, None] < pixels) & (channel[None, :] < channels)
        x = tl.load(at + channel[None, :] * channel_stride, mask=inside, other=0).to(tl.float32)
        times = tl.load(factor + batch * channels + channel, mask=channel < channels, other=0)
        x = tl.where(good[:, None], x * times[None, :], 0.0)
        stored = (pixel[:, None] < padded) & (channel[None, :] < width)
        to = row[:, None] * width + channel[None, :]
        high = high_of(x)
        tl.store(state + to, high, mask=stored)
        if SPLIT:
            tl.store(state_low + to, low_of(x, high), mask=stored)


@triton.jit
def largest_values(
    values,  # [B, pixels, channels] by strides
    # output
    largest,  # [B, blocks, channels] float32: largest finite magnitude in a block of ROWS pixels
    pixels,
    channels,
    batch_stride,
    pixel_stride,
    channel_stride,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,  # that one round takes
):
    batch = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = values + batch * batch_stride + pixel[:, None].to(tl.int64) * pixel_stride
    to = largest + (batch * tl.num_programs(0) + tl.program_id(0)) * channels
    for first in range(0, channels, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)
        inside = (pixel[:, None] < pixels) & (channel[None, :] < channels)
        size = tl.abs(tl.load(at + channel[None, :] * channel_stride, mask=inside, other=0).to(tl.float32))
        size = tl.where(size < float("inf"), size, 0.0)
        tl.store(to + channel, tl.max(size, 0), mask=channel < channels)
