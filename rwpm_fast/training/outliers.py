"""Synthetic outliers to paste into photos: rendered unknown objects, and random shapes filled with other textures.

The network learns to be unsure of them: outlier exposure, Hendrycks et al., "Deep Anomaly Detection with Outlier
Exposure", ICLR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..scenes import UNKNOWN
from .photometric import photometric_jitter
from .samples import PhotoSample, SceneSample

MIN_CUTOUT_PIXELS = 150  # smaller objects are not worth cutting out


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object cut out of a scene.

    Attributes:
        pixels: [3, h, w] uint8.
        mask: [h, w] bool, where the object is.
    """

    pixels: Tensor
    mask: Tensor


def cutouts(scenes: Sequence[SceneSample]) -> list[Cutout]:
    """Cut the unknown objects out of rendered scenes; several in one scene are one cutout."""
    found = []
    for scene in scenes:
        mask = scene.class_map == UNKNOWN
        if mask.sum() >= MIN_CUTOUT_PIXELS:
            occupied = (torch.nonzero(mask.any(axis)).flatten().tolist() for axis in (1, 0))
            rows, columns = (slice(indices[0], indices[-1] + 1) for indices in occupied)
            found.append(Cutout(scene.image[:, rows, columns].clone(), mask[rows, columns].clone()))
    return found


def paste_outliers(
    image: Tensor, rng: np.random.Generator, objects: Sequence[Cutout], photos: Sequence[PhotoSample]
) -> tuple[Tensor, Tensor]:
    """Paste one or two outliers into an image, below its top quarter.

    Args:
        image: [3, H, W] float32, 0..255.
        rng: source of outliers, sizes and positions.
        objects: rendered objects; an outlier is one of them or, also if there are none, a random shape.
        photos: samples whose images fill random shapes.

    Returns:
        The image with the outliers, and their opacity, [H, W] float32 in [0, 1].
    """
    image, opacity = image.clone(), torch.zeros(image.shape[1:])
    height, width = image.shape[1:]
    for _ in range(int(rng.integers(1, 3))):
        if objects and rng.random() < 0.5:
            pixels, mask = _resized(objects[int(rng.integers(len(objects)))], log_uniform(rng, 16, 150), height, width)
        else:
            h = min(int(log_uniform(rng, 12, 110)), height)
            w = min(int(log_uniform(rng, 12, 150)), width)
            pixels, mask = _random_texture(rng, photos, h, w), _random_shape(rng, h, w)
        pixels = photometric_jitter(pixels, rng).clamp(0, 255)
        h, w = mask.shape
        top = int(rng.integers(min(height // 4, height - h), height - h + 1))
        left = int(rng.integers(width - w + 1))
        rows, columns = slice(top, top + h), slice(left, left + w)
        # soft edges, or the network would learn to detect the sharp edges of a cutout
        soft = F.avg_pool2d(mask[None, None], 3, 1, 1, count_include_pad=False)[0]
        image[:, rows, columns] = image[:, rows, columns] * (1 - soft) + pixels * soft
        opacity[rows, columns] = torch.maximum(opacity[rows, columns], mask)
    return image, opacity


def _resized(cutout: Cutout, longer_side: float, max_height: int, max_width: int) -> tuple[Tensor, Tensor]:
    """Resize a cutout: pixels [3, h, w] and opacity [h, w], float32."""
    h, w = cutout.mask.shape
    limits = (h, max_height), (w, max_width)
    h, w = (min(max(4, round(side * longer_side / max(h, w))), limit) for side, limit in limits)
    pixels = F.interpolate(cutout.pixels[None].float(), (h, w), mode="bilinear", antialias=True)[0]
    return pixels, F.interpolate(cutout.mask[None, None].float(), (h, w), mode="bilinear", antialias=True)[0, 0]


def _random_texture(rng: np.random.Generator, photos: Sequence[PhotoSample], h: int, w: int) -> Tensor:
    """Return a crop of a photo, perhaps rotated or with permuted colors, or noise: [3, h, w] float32."""
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


def _random_shape(rng: np.random.Generator, h: int, w: int) -> Tensor:
    """Return a round shape with a wavy outline, [h, w] of 0 and 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    angle = torch.atan2(y, x)
    waves = (rng.normal(0, 0.12) * torch.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in range(1, 6))
    radius = 0.7 + sum(waves, torch.zeros(h, w))
    return (torch.hypot(x, y) < radius.clamp(0.25, 1)).float()


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
