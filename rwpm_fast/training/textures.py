"""Textures and shapes of synthetic outliers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .samples import PhotoSample

COAT_SHARE = 0.35  # of the textures: stripes, spots or patches
LATTICE = 64  # random values per side, mirrored beyond


def random_texture(rng: np.random.Generator, photos: Sequence[PhotoSample], h: int, w: int) -> Tensor:
    """Return stripes, spots or patches, a crop of a photo, or noise: [3, h, w] float32, 0..255.

    Args:
        rng: source of everything about it.
        photos: whose crops are textures.
        h: height in pixels.
        w: width in pixels.
    """
    if rng.random() < COAT_SHARE:
        return _coat(rng, h, w)
    if not photos or rng.random() < 0.4:
        cells = [max(2, side // int(rng.integers(2, 9))) for side in (h, w)]
        noise = torch.from_numpy(rng.normal(0, rng.uniform(5, 70), (1, 3, *cells))).float()
        color = torch.from_numpy(rng.uniform(0, 255, 3)).float()[:, None, None]
        return (color + F.interpolate(noise, (h, w), mode="bilinear")[0]).clamp(0, 255)
    image = photos[int(rng.integers(len(photos)))].image
    scale = int(rng.integers(1, 4))  # the crop is so many times as large as the outlier
    top, left = (int(rng.integers(max(1, side - s * scale))) for side, s in zip(image.shape[1:], (h, w), strict=True))
    crop = image[None, :, top : top + h * scale, left : left + w * scale].float()
    crop = F.interpolate(crop, (h, w), mode="bilinear", antialias=True)[0]
    if rng.random() < 0.5:
        crop = crop[torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.5:
        crop = F.interpolate(crop.rot90(1, (1, 2))[None], (h, w))[0]
    return crop


def _coat(rng: np.random.Generator, h: int, w: int) -> Tensor:
    """Return two colors in patches, spots or stripes with hair and shading, [3, h, w] float32, 0..255."""
    angle = rng.uniform(0, math.pi)
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    lattice = torch.from_numpy(rng.random((1, 1, LATTICE, LATTICE), np.float32))
    period, stretch = max(3.0, log_uniform(rng, 0.03, 0.3) * max(h, w)), log_uniform(rng, 1, 6)
    smooth, hair = (_stretched(lattice, u / size, v / size / stretch) for size in (period, 2.5))
    kind = rng.integers(3)
    if kind == 0:
        mix = smooth
    elif kind == 1:
        mix = (smooth > rng.uniform(0.4, 0.65)).float()
    else:
        mix = ((u / period + 2 * smooth) % 1 < 0.5).float()
    if rng.random() < 0.5:  # black to white over browns
        brown = np.stack([np.ones(2), rng.uniform(0.7, 1, 2), rng.uniform(0.45, 1, 2)], 1)
        colors = rng.uniform(5, 240, (2, 1)) * brown
    else:
        colors = rng.uniform(0, 255, (2, 3))
    first, second = torch.from_numpy(colors).float()[:, :, None, None]
    shading = 1 + rng.uniform(-0.4, 0.4) * torch.linspace(-1, 1, h)[:, None]
    return ((first + (second - first) * mix) * (1 + rng.uniform(0.1, 0.6) * (2 * hair - 1)) * shading).clamp(0, 255)


def _stretched(lattice: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Interpolate a lattice [1, 1, n, n] at coordinates [h, w] in cells."""
    grid = torch.stack([u, v], -1)[None] * (2 / LATTICE)
    return F.grid_sample(lattice, grid, padding_mode="reflection", align_corners=False)[0, 0]


def random_shape(rng: np.random.Generator, h: int, w: int) -> Tensor:
    """Return a round shape with a wavy outline, [h, w] float32 of 0 and 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    angle = torch.atan2(y, x)
    waves = (rng.normal(0, 0.12) * torch.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in range(1, 6))
    radius = 0.7 + sum(waves, torch.zeros(h, w))
    return (torch.hypot(x, y) < radius.clamp(0.25, 1)).float()


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
