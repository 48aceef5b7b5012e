"""What is walked in the FPS benchmark: the paper's maps, in sub-maps, in 32 or 16 bits, on a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...ops.maps import partition_edges
from ..cases import Case, Problem, smooth_manifolds

DTYPES = {"float16": torch.float16, "float32": torch.float32}

# Maps of the paper's networks, their sub-maps n, and channels that are walked: pixel embeddings, Mask2Former's mask
# logits, class logits. RbA at 720p (padded) and at 1024x2048 with its width halved, DeepLab at stride 2.
PAPER = (
    ((184, 320), (1, 2, 4, 8), (256, 100, 19)),
    ((256, 512), (1, 2), (256, 100, 19)),
    ((512, 1024), (1, 4), (19,)),
)
PAPER_STEPS = (20, 5)  # T of RoadAnomaly, and of the rest; the released code makes T + 1 transitions


@dataclass(frozen=True)
class Frame(Case):
    """A map to walk in ``parts`` x ``parts`` sub-maps on a device. See :class:`Case` for the rest; synthetic embeddings
    are :func:`smooth_manifolds`.

    Args:
        parts: n of the paper, a divisor of height and width.
        dtype: of embeddings and values, a name of :data:`DTYPES`.
        device: torch's name of the device.
    """

    parts: int = 1
    dtype: str = "float16"
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in (self.height, self.width):
            partition_edges(side, self.parts)
            if side % self.parts:
                raise ValueError(f"parts: expected a divisor of {self.height} and {self.width}, got {self.parts}")
        if self.part_pixels < 2:
            raise ValueError(f"parts: expected sub-maps of 2 or more pixels, got {self.part_pixels}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")

    @property
    def name(self) -> str:
        return "smooth manifolds" if self.source is None else self.source.stem

    @property
    def part_pixels(self) -> int:
        """P, pixels of a sub-map."""
        return self.pixels // self.parts**2

    @property
    def pairs(self) -> int:
        """Ordered pairs of pixels that a transition goes over, those of a pixel with itself among them."""
        return self.pixels * self.part_pixels

    def title(self) -> str:
        cut = "uncut" if self.parts == 1 else f"n = {self.parts}"
        return f"{super().title()}, {cut}, {self.dtype}"

    def small(self) -> Frame:
        """A synthetic map of no more than 32x32 pixels, 128x128 on a GPU, and one transition, all else alike."""
        most = 32 if torch.device(self.device).type == "cpu" else 128
        sides = []
        for side in (self.height, self.width):
            parts = side // self.parts  # the sides of a sub-map
            sides.append(self.parts * min(parts, max(2, most // self.parts)))
        return replace(self, height=sides[0], width=sides[1], steps=min(1, self.steps), source=None)

    def synthetic(self) -> Tensor:
        return smooth_manifolds(self.height, self.width, self.channels, self.seed)

    def problem(self) -> Problem:
        """The tensors: embeddings [n * n, P, D] and values [n * n, P, C] of the sub-maps, pixels row by row."""
        whole = super().problem()
        to = {"device": self.device, "dtype": DTYPES[self.dtype]}
        return Problem(self, *(t[self._order()].to(**to) for t in (whole.embeddings, whole.values)))

    def _order(self) -> Tensor:
        """Index [n * n, P] of the pixels of every sub-map."""
        index = torch.arange(self.pixels).view(self.height, self.width)
        rows, columns = (list(pairwise(partition_edges(side, self.parts))) for side in index.shape)
        return torch.stack([index[top:bottom, left:right].flatten() for top, bottom in rows for left, right in columns])

    def as_map(self, pixels: Tensor) -> Tensor:
        """The map [1, C, H, W], as a network gives it, of sub-maps' pixels [n * n, P, C]."""
        back = self._order().flatten().argsort().to(pixels.device)
        return pixels.flatten(0, 1)[back].T.reshape(1, -1, self.height, self.width).contiguous()

    def of_map(self, map_: Tensor) -> Tensor:
        """The inverse of :meth:`as_map`."""
        return map_[0].flatten(1).T[self._order().to(map_.device)]


def paper_frames(**settings: Any) -> Iterator[Frame]:
    """Every size, n, width and T of the paper, the widest and longest walk of a size first."""
    for shape, every, channels in PAPER:
        for parts in every:
            for width in channels:
                for steps in PAPER_STEPS:
                    yield Frame(*shape, parts=parts, value_channels=width, steps=steps, **settings)
