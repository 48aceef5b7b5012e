"""The kernels' inputs: :class:`PackedGraph` of embeddings, and the state that is walked, in one or two halves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..settings import cosine_scale
from .kernels import pack as kernels
from .kernels.tiles import channel_tiles, padded_pixels, power_of_two, split_channels
from .launch import launch

# Rounding in float32 of a cosine made of products of 16-bit numbers, by half: two pixels make a pair.
ROUNDING = 2e-6


class HalfPair(NamedTuple):
    """Numbers as the kernels read them: one float16, or two of which the second counts 2^-11.

    Attributes:
        high: float16, the number rounded.
        low: float16 of the same shape, 2^11 times what rounding took; None: one half is enough.
    """

    high: Tensor
    low: Tensor | None

    @classmethod
    def empty(cls, *shape: int, has_low: bool, device: torch.device) -> HalfPair:
        """Uninitialized numbers."""
        high = torch.empty(shape, dtype=torch.float16, device=device)
        return cls(high, torch.empty_like(high) if has_low else None)

    @classmethod
    def split(cls, numbers: Tensor) -> HalfPair:
        """Numbers of float32, within the range of float16, in two halves."""
        high = numbers.half()
        return cls(high, ((numbers - high.float()) * 2.0**11).half())

    def map(self, function: Callable[[Tensor], Tensor]) -> HalfPair:
        """Apply a function to each half."""
        return HalfPair(function(self.high), None if self.low is None else function(self.low))

    @property
    def has_low(self) -> bool:
        return self.low is not None

    @property
    def halves(self) -> int:
        return 2 if self.has_low else 1

    def pointers(self) -> tuple[Tensor, Tensor]:
        """Both halves; the first again if there is no second, which no kernel then reads."""
        return self.high, self.high if self.low is None else self.low

    def to_float(self) -> Tensor:
        """The numbers in float32."""
        return self.high.float() if self.low is None else self.high.float().add(self.low, alpha=2.0**-11)


@dataclass
class PackedGraph:
    """Packed embeddings of a batch. See :mod:`rwpm_fast.ops.gpu.kernels.pack`.

    Attributes:
        pixels: N.
        keys: [B, padded, D0 + D1].
        channels: D0 and D1, powers of two whose sum is a row's width.
        inv_norm: [B, padded].
        valid: [B, padded] int8.
        rounding_norm: [B, padded], norm of what rounding to one half takes from a unit embedding; None without low
            halves.
        scale: log2(e) / temperature, clamped as :func:`rwpm_fast.ops.settings.cosine_scale` does.
    """

    pixels: int
    keys: HalfPair
    channels: tuple[int, int]
    inv_norm: Tensor
    valid: Tensor
    rounding_norm: Tensor | None
    scale: float

    @property
    def batch(self) -> int:
        return self.valid.shape[0]

    @property
    def padded(self) -> int:
        return self.valid.shape[1]

    @cached_property
    def quant_error(self) -> Tensor:
        """The largest of a valid pixel, [B]; a cosine of the high halves alone is off by no more than twice this.

        Rounding float32 to one half, where TF32 is allowed, is not in it. Pixels that leave the graph later than this
        is read are in it.
        """
        if self.rounding_norm is None:
            return self.inv_norm.new_full((self.batch,), ROUNDING)
        return torch.where(self.valid != 0, self.rounding_norm, 0).amax(1) + ROUNDING

    def per_row(self, number: float) -> Tensor:
        """The same number for every row, [B, padded] float32."""
        return torch.full_like(self.inv_norm, number)

    def image(self, index: int) -> PackedGraph:
        """The graph of one image, a batch of one."""
        one = slice(index, index + 1)
        rounding_norm = None if self.rounding_norm is None else self.rounding_norm[one]
        keys = self.keys.map(lambda half: half[one])
        return replace(self, keys=keys, inv_norm=self.inv_norm[one], valid=self.valid[one], rounding_norm=rounding_norm)

    def high_only(self) -> PackedGraph:
        """The same graph without the keys' low halves."""
        return replace(self, keys=HalfPair(self.keys.high, None))

    def pointers(self) -> tuple[Tensor, ...]:
        """What exact kernels read, in the order of :mod:`rwpm_fast.ops.gpu.kernels`."""
        return *self.keys.pointers(), self.inv_norm, self.valid

    def high_pointers(self) -> tuple[Tensor, ...]:
        """What the kernels read that compare high halves, in the same order."""
        return self.keys.high, self.inv_norm, self.valid, self.quant_error


def pack_graph(embeddings: Tensor, mask: Tensor | None, temperature: float) -> PackedGraph:
    """Pack embeddings [B, N, D], masked by [B, N]."""
    batch, pixels, channels = embeddings.shape
    padded, split = padded_pixels(pixels), split_channels(channels)
    width = sum(split)
    keys = HalfPair.empty(batch, padded, width, has_low=needs_two_halves(embeddings), device=embeddings.device)
    valid = torch.empty(batch, padded, dtype=torch.int8, device=embeddings.device)
    inv_norm = torch.empty(batch, padded, device=embeddings.device)
    rounding_norm = torch.empty_like(inv_norm) if keys.has_low else None
    tile_channels = max(power_of_two(width), power_of_two(channels))
    rows = max(1, 8192 // tile_channels)
    masks = valid if mask is None else mask.view(torch.int8)
    launch(
        kernels.pack_embeddings,
        (-(-padded // rows), batch),
        *(embeddings, masks, *keys.pointers(), inv_norm if rounding_norm is None else rounding_norm, inv_norm, valid),
        *(pixels, padded, channels),
        *(*embeddings.stride(), *masks.stride()),
        MASKED=mask is not None,
        HAS_LOW=keys.has_low,
        WIDTH=width,
        CHANNELS=tile_channels,
        ROWS=rows,
    )
    scale = cosine_scale(temperature) * math.log2(math.e)
    return PackedGraph(pixels, keys, split, inv_norm, valid, rounding_norm, scale)


def pack_state(
    values: Tensor, graph: PackedGraph, *, check: bool, has_low: bool | None = None
) -> tuple[HalfPair, Tensor]:
    """Pack values as the state of a walk.

    Args:
        values: [B, N, C].
        graph: of the same pixels.
        check: whether a pixel whose value is not finite leaves the graph.
        has_low: whether in two halves; None: where the values need them.

    Returns:
        The state [B, padded, width], and the factors [B, C] by which it is larger than the values: powers of two that
        bring a channel's largest into [1/2, 1).
    """
    batch, pixels, channels = values.shape
    has_low = needs_two_halves(values) if has_low is None else has_low
    width = channel_tiles(channels, 1 + has_low)[-1].end
    tile_channels = min(power_of_two(width), 256)
    rows = 8192 // tile_channels
    largest = torch.empty(batch, -(-pixels // rows), channels, device=values.device)
    tile = {"ROWS": rows, "CHANNELS": tile_channels}
    launch(kernels.largest_values, largest.shape[1::-1], values, largest, pixels, channels, *values.stride(), **tile)
    exponent = torch.frexp(largest.amax(1)).exponent.clamp(-125, 125)
    factor = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), -exponent)
    state = HalfPair.empty(batch, graph.padded, width, has_low=has_low, device=values.device)
    launch(
        kernels.pack_values,
        (-(-graph.padded // rows), batch),
        *(values, factor, graph.valid, *state.pointers(), pixels, graph.padded, channels, width, *values.stride()),
        CHECK=check,
        HAS_LOW=state.has_low,
        **tile,
    )
    return state, factor


def unpack_state(state: Tensor, factor: Tensor, graph: PackedGraph, values: Tensor) -> Tensor:
    """Unpack a state [B, padded, width] float32 as values [B, N, C]; a pixel outside the graph, or isolated in it,
    keeps its own value."""
    pixels, channels = values.shape[1:]
    walked = (state[:, :pixels, :channels] / factor[:, None]).to(values.dtype)
    valid = graph.valid[:, :pixels] != 0
    inside = valid & (valid.sum(1, keepdim=True) > 1)
    return torch.where(inside[..., None], walked, values).contiguous()


def needs_two_halves(t: Tensor) -> bool:
    """Whether one float16 would lose digits of a tensor; not where torch may multiply float32 in TF32, whose digits are
    those of float16."""
    if t.dtype != torch.float32:
        return False
    matmul = torch.backends.cuda.matmul
    # Reading allow_tf32 after somebody has set fp32_precision is an error in torch; it came with torch 2.9.
    return not (matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32)
