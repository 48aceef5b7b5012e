"""The kernels' inputs, made of the user's: any strides, any floating dtype, pixels that are not finite."""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import high_half, low_half


@triton.jit
def pack_embeddings(
    p_embeddings,  # [B, pixels, channels] by strides
    p_mask,  # [B, pixels] by strides, int8
    # output
    p_keys,  # [B, padded, WIDTH]; zero in rows that are invalid. If HAS_LOW unit embeddings, else rows times a power of
    # two that brings their largest element into [1, 2), so that no digit is lost
    p_keys_low,  # the same: what rounding to float16 took from the keys
    p_quant_error,  # [B, padded] the norm of that
    p_inv_norm,  # [B, padded] 1 / norm of a row of keys, 0 if invalid
    p_valid,  # [B, padded] int8
    pixels,
    padded,
    channels,
    batch_stride,
    pixel_stride,
    channel_stride,
    mask_batch_stride,
    mask_pixel_stride,
    MASKED: tl.constexpr,
    HAS_LOW: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,  # a power of two, at least WIDTH
    ROWS: tl.constexpr,
):
    """Make keys of embeddings: float16 in one half or two, with norms, validity and rounding errors.

    Grid: (padded / ROWS, B).
    """
    i_batch = tl.program_id(1).to(tl.int64)
    o_pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    o_channel = tl.arange(0, CHANNELS)
    o_in = i_batch * batch_stride + o_pixel[:, None].to(tl.int64) * pixel_stride + o_channel[None, :] * channel_stride
    m_in = (o_pixel[:, None] < pixels) & (o_channel[None, :] < channels)
    b_x = tl.load(p_embeddings + o_in, mask=m_in, other=0).to(tl.float32)  # [ROWS, CHANNELS]

    b_size = tl.abs(b_x)
    m_valid = (o_pixel < pixels) & (tl.min((b_size < float("inf")).to(tl.int32), 1) > 0)  # a NaN compares false
    if MASKED:
        o_mask = i_batch * mask_batch_stride + o_pixel.to(tl.int64) * mask_pixel_stride
        m_valid = m_valid & (tl.load(p_mask + o_mask, mask=o_pixel < pixels, other=0) != 0)
    b_x = tl.where(m_valid[:, None], b_x, 0.0)
    b_largest = tl.max(tl.where(m_valid[:, None], b_size, 0.0), 1)
    # 2^-exponent from the bits; at the ends of the range the element comes into [2, 4) or stays below 1.
    b_exponent = b_largest.to(tl.int32, bitcast=True) >> 23
    b_factor = (tl.minimum(tl.maximum(254 - b_exponent, 1), 254) << 23).to(tl.float32, bitcast=True)
    b_x = b_x * b_factor[:, None]
    if HAS_LOW:
        # In float64: an error of a norm is in all cosines of the pixel, and does not average out.
        b_double = b_x.to(tl.float64)
        b_norm = tl.maximum(tl.sqrt(tl.sum(b_double * b_double, 1)), 1e-12 * b_factor.to(tl.float64))
        b_x = (b_double / b_norm[:, None]).to(tl.float32)
        b_inv_norm = tl.where(m_valid, 1.0, 0.0)
    else:
        b_norm = tl.maximum(tl.sqrt(tl.sum(b_x * b_x, 1)), 1e-12 * b_factor)
        b_inv_norm = tl.where(m_valid, 1 / b_norm, 0.0)

    o_row = i_batch * padded + o_pixel
    m_out = (o_pixel[:, None] < padded) & (o_channel[None, :] < WIDTH)
    o_out = o_row[:, None] * WIDTH + o_channel[None, :]
    b_high = high_half(b_x)
    tl.store(p_keys + o_out, b_high, mask=m_out)
    tl.store(p_inv_norm + o_row, b_inv_norm, mask=o_pixel < padded)
    tl.store(p_valid + o_row, m_valid.to(tl.int8), mask=o_pixel < padded)
    if HAS_LOW:
        b_rest = b_x - b_high.to(tl.float32)
        tl.store(p_keys_low + o_out, low_half(b_x, b_high), mask=m_out)
        tl.store(p_quant_error + o_row, tl.sqrt(tl.sum(b_rest * b_rest, 1)), mask=o_pixel < padded)


@triton.jit
def pack_values(
    p_values,  # [B, pixels, channels] by strides
    p_factor,  # [B, channels] float32
    p_valid,  # [B, padded] int8; if CHECK cleared where a value is not finite
    # output
    p_state,  # [B, padded, width] values times factor, zero if invalid and in channels beyond
    p_state_low,
    pixels,
    padded,
    channels,
    width,
    batch_stride,
    pixel_stride,
    channel_stride,
    CHECK: tl.constexpr,
    HAS_LOW: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,  # of one iteration
):
    """Make the state of values: each channel times its factor, in one half or two.

    Grid: (padded / ROWS, B).
    """
    i_batch = tl.program_id(1).to(tl.int64)
    o_pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    o_row = i_batch * padded + o_pixel
    p_row = p_values + i_batch * batch_stride + o_pixel[:, None].to(tl.int64) * pixel_stride
    m_valid = tl.load(p_valid + o_row, mask=o_pixel < padded, other=0) != 0
    if CHECK:
        for i_channel in range(0, channels, CHANNELS):
            o_channel = i_channel + tl.arange(0, CHANNELS)
            m_in = (o_pixel[:, None] < pixels) & (o_channel[None, :] < channels)
            b_x = tl.load(p_row + o_channel[None, :] * channel_stride, mask=m_in, other=0).to(tl.float32)
            m_valid = m_valid & (tl.min((tl.abs(b_x) < float("inf")).to(tl.int32), 1) > 0)
        tl.store(p_valid + o_row, m_valid.to(tl.int8), mask=o_pixel < padded)
    for i_channel in range(0, width, CHANNELS):
        o_channel = i_channel + tl.arange(0, CHANNELS)
        m_in = (o_pixel[:, None] < pixels) & (o_channel[None, :] < channels)
        b_x = tl.load(p_row + o_channel[None, :] * channel_stride, mask=m_in, other=0).to(tl.float32)
        b_factor = tl.load(p_factor + i_batch * channels + o_channel, mask=o_channel < channels, other=0)
        b_x = tl.where(m_valid[:, None], b_x * b_factor[None, :], 0.0)
        m_out = (o_pixel[:, None] < padded) & (o_channel[None, :] < width)
        o_out = o_row[:, None] * width + o_channel[None, :]
        b_high = high_half(b_x)
        tl.store(p_state + o_out, b_high, mask=m_out)
        if HAS_LOW:
            tl.store(p_state_low + o_out, low_half(b_x, b_high), mask=m_out)


@triton.jit
def largest_values(
    p_values,  # [B, pixels, channels] by strides
    # output
    p_largest,  # [B, blocks, channels] float32: largest finite magnitude in a block of ROWS pixels
    pixels,
    channels,
    batch_stride,
    pixel_stride,
    channel_stride,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,  # of one iteration
):
    """Find the largest magnitude of each channel in each block of pixels.

    Grid: (pixels / ROWS, B).
    """
    i_batch = tl.program_id(1).to(tl.int64)
    o_pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    p_row = p_values + i_batch * batch_stride + o_pixel[:, None].to(tl.int64) * pixel_stride
    p_out = p_largest + (i_batch * tl.num_programs(0) + tl.program_id(0)) * channels
    for i_channel in range(0, channels, CHANNELS):
        o_channel = i_channel + tl.arange(0, CHANNELS)
        m_in = (o_pixel[:, None] < pixels) & (o_channel[None, :] < channels)
        b_size = tl.abs(tl.load(p_row + o_channel[None, :] * channel_stride, mask=m_in, other=0).to(tl.float32))
        b_size = tl.where(b_size < float("inf"), b_size, 0.0)
        tl.store(p_out + o_channel, tl.max(b_size, 0), mask=o_channel < channels)
