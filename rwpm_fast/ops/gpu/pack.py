"""What the kernels read, packed: :class:`Graph` of embeddings, and the state that is walked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..settings import cosine_scale
from .kernels import pack
from .kernels.tiles import padded_pixels, panels, power_of_two, split
from .launch import launch

# Float rounding of a cosine made of products of 16-bit numbers, by half: two pixels make a pair.
ROUNDING = 2e-6


class Split(NamedTuple):
    """Numbers as the kernels read them: one float16, or two of which the second counts 2^-11."""

    high: Tensor
    low: Tensor | None

    @classmethod
    def empty(cls, *shape: int, split: bool, device: torch.device) -> Split:
        high = torch.empty(shape, dtype=torch.float16, device=device)
        return cls(high, torch.empty_like(high) if split else None)

    @property
    def split(self) -> bool:
        return self.low is not None

    @property
    def parts(self) -> int:
        return 2 if self.split else 1

    def pointers(self) -> tuple[Tensor, Tensor]:
        """Both; the first again where there is no second, which no kernel then reads."""
        return self.high, self.high if self.low is None else self.low

    def number(self) -> Tensor:
        return self.high.float() if self.low is None else self.high.float().add(self.low, alpha=2.0**-11)


@dataclass
class Graph:
    """Packed embeddings of a batch. See :mod:`rwpm_fast.ops.gpu.kernels.pack`."""

    pixels: int
    keys: Split  # [B, padded, D0 + D1]
    channels: tuple[int, int]  # D0, D1, whose sum is a row's width
    inverse: Tensor  # [B, padded]
    valid: Tensor  # [B, padded] int8
    off: Tensor  # [B]: a cosine of the first parts alone is off by no more than twice this
    scale: float

    @property
    def batch(self) -> int:
        return self.valid.shape[0]

    @property
    def padded(self) -> int:
        return self.valid.shape[1]


def pack_graph(embeddings: Tensor, mask: Tensor | None, temperature: float) -> Graph:
    """Pack embeddings [B, N, D], masked by [B, N]."""
    batch, pixels, channels = embeddings.shape
    padded, cut = padded_pixels(pixels), split(channels)
    width = sum(cut)
    keys = Split.empty(batch, padded, width, split=_splits(embeddings), device=embeddings.device)
    valid = torch.empty(batch, padded, dtype=torch.int8, device=embeddings.device)
    inverse = torch.empty(batch, padded, device=embeddings.device)
    off = torch.empty_like(inverse) if keys.split else inverse
    most = max(power_of_two(width), power_of_two(channels))
    rows = max(1, 8192 // most)
    masks = valid if mask is None else mask.view(torch.int8)
    launch(
        pack.pack_embeddings,
        (-(-padded // rows), batch),
        *(embeddings, masks, *keys.pointers(), off, inverse, valid, pixels, padded, channels),
        *(*embeddings.stride(), *masks.stride()),
        MASKED=mask is not None,
        SPLIT=keys.split,
        WIDTH=width,
        CHANNELS=most,
        ROWS=rows,
    )
    most_off = off.amax(1) + ROUNDING if keys.split else torch.full((batch,), ROUNDING, device=off.device)
    scale = cosine_scale(temperature) * math.log2(math.e)
    return Graph(pixels, keys, cut, inverse, valid, most_off, scale)


def pack_state(values: Tensor, graph: Graph, *, check: bool) -> tuple[Split, Tensor]:
    """Values [B, N, C] as a state [B, padded, width], and the factors [B, C] that they carry there: powers of two that
    bring a channel's largest into [1/2, 1). With ``check`` a pixel whose value is not finite leaves the graph."""
    batch, pixels, channels = values.shape
    parts = 2 if _splits(values) else 1
    width = panels(channels, parts)[-1].end
    most = min(power_of_two(width), 256)
    rows = 8192 // most
    largest = torch.empty(batch, -(-pixels // rows), channels, device=values.device)
    tile = {"ROWS": rows, "CHANNELS": most}
    launch(pack.largest_values, largest.shape[1::-1], values, largest, pixels, channels, *values.stride(), **tile)
    exponent = torch.frexp(largest.amax(1)).exponent.clamp(-125, 125)
    factor = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), -exponent)
    state = Split.empty(batch, graph.padded, width, split=parts == 2, device=values.device)
    launch(
        pack.pack_values,
        (-(-graph.padded // rows), batch),
        *(values, factor, graph.valid, *state.pointers(), pixels, graph.padded, channels, width, *values.stride()),
        CHECK=check,
        SPLIT=state.split,
        **tile,
    )
    return state, factor


def unpack_state(state: Split, factor: Tensor, graph: Graph, values: Tensor) -> Tensor:
    """The state as values [B, N, C]; a pixel that is no part of the graph, or alone in it, keeps its own."""
    pixels, channels = values.shape[1:]
    walked = (state.number()[:, :pixels, :channels] / factor[:, None]).to(values.dtype)
    valid = graph.valid[:, :pixels] != 0
    inside = valid & (valid.sum(1, keepdim=True) > 1)
    return torch.where(inside[..., None], walked, values).contiguous()


def _splits(t: Tensor) -> bool:
    # Who lets torch multiply float32 in TF32 gets the digits of TF32, which are those of float16.
    return t.dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
