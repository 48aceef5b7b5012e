"""Things that no class is for, to paste into photos: rendered ones, and shapes filled with what belongs elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rwpm_fast.scenes.labels import UNKNOWN

from .photometric import in_another_light
from .samples import Lesson

LEAST = 150  # pixels of a rendered thing worth cutting out


@dataclass(frozen=True, eq=False)
class Cutout:
    """Pixels [3, h, w] uint8 of a thing, and where it is, [h, w] bool."""

    pixels: Tensor
    shape: Tensor


def cutouts(scenes: Sequence[Lesson]) -> list[Cutout]:
    """The unknown things of rendered scenes; those of one scene together where there are several."""
    found = []
    for scene in scenes:
        shape = scene.classes == UNKNOWN
        if shape.sum() >= LEAST:
            rows, columns = (torch.nonzero(shape.any(axis)).flatten() for axis in (1, 0))
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            found.append(Cutout(scene.picture[(slice(None), *box)].clone(), shape[box].clone()))
    return found


def paste(
    view: Tensor, rng: np.random.Generator, things: Sequence[Cutout], photos: Sequence[Lesson]
) -> tuple[Tensor, Tensor]:
    """One or two strangers in a view, below its top quarter.

    Args:
        view: [3, H, W] float32, 0..255.
        things: rendered ones.
        photos: whose pieces fill the shapes.

    Returns:
        The view with them, and where they are, [H, W] float32.
    """
    view, shapes = view.clone(), torch.zeros(view.shape[1:])
    height, width = view.shape[1:]
    for _ in range(int(rng.integers(1, 3))):
        if things and rng.random() < 0.5:
            pixels, shape = _resized(things[rng.integers(len(things))], _log_uniform(rng, 16, 150), height, width)
        else:
            h = min(int(_log_uniform(rng, 12, 110)), height)
            w = min(int(_log_uniform(rng, 12, 150)), width)
            pixels, shape = _filling(rng, photos, h, w), _blob(rng, h, w)
        pixels = in_another_light(pixels, rng).clamp(0, 255)
        h, w = shape.shape
        top = int(rng.integers(min(height // 4, height - h), height - h + 1))
        left = int(rng.integers(width - w + 1))
        place = slice(top, top + h), slice(left, left + w)
        soft = F.avg_pool2d(shape[None, None], 3, 1, 1, count_include_pad=False)[0]  # no edge as sharp as scissors'
        view[(slice(None), *place)] = view[(slice(None), *place)] * (1 - soft) + pixels * soft
        shapes[place] = torch.maximum(shapes[place], shape)
    return view, shapes


def _resized(thing: Cutout, longer: float, height: int, width: int) -> tuple[Tensor, Tensor]:
    h, w = thing.shape.shape
    h, w = (min(max(4, round(side * longer / max(h, w))), most) for side, most in ((h, height), (w, width)))
    pixels = F.interpolate(thing.pixels[None].float(), (h, w), mode="bilinear", antialias=True)[0]
    return pixels, F.interpolate(thing.shape[None, None].float(), (h, w), mode="bilinear", antialias=True)[0, 0]


def _filling(rng: np.random.Generator, photos: Sequence[Lesson], h: int, w: int) -> Tensor:
    """A piece of a photo, perhaps turned and in other colors, or a texture of noise: [3, h, w] float32."""
    if not photos or rng.random() < 0.4:
        cells = [max(2, side // int(rng.integers(2, 9))) for side in (h, w)]
        noise = torch.from_numpy(rng.normal(0, rng.uniform(5, 70), (1, 3, *cells))).float()
        color = torch.from_numpy(rng.uniform(0, 255, 3)).float()[:, None, None]
        return (color + F.interpolate(noise, (h, w), mode="bilinear")[0]).clamp(0, 255)
    picture = photos[rng.integers(len(photos))].picture
    times = int(rng.integers(1, 4))  # of the size that it gets
    top, left = (int(rng.integers(max(1, side - s * times))) for side, s in zip(picture.shape[1:], (h, w), strict=True))
    piece = picture[None, :, top : top + h * times, left : left + w * times].float()
    piece = F.interpolate(piece, (h, w), mode="bilinear", antialias=True)[0]
    if rng.random() < 0.5:
        piece = piece[torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.5:
        piece = F.interpolate(piece.rot90(1, (1, 2))[None], (h, w))[0]
    return piece


def _blob(rng: np.random.Generator, h: int, w: int) -> Tensor:
    """A round shape with a wavy outline, [h, w] of 0 and 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    angle = torch.atan2(y, x)
    waves = (rng.normal(0, 0.12) * torch.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in range(1, 6))
    return (torch.hypot(x, y) < (0.7 + sum(waves)).clamp(0.25, 1)).float()


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
