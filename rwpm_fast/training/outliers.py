"""Synthetic outliers to paste into photos: rendered unknown objects, and random shapes filled with other textures.

The network learns to be unsure of them: outlier exposure, Hendrycks et al., "Deep Anomaly Detection with Outlier
Exposure", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..scenes import UNKNOWN
from ..scenes.single import render_object
from .photometric import photometric_jitter
from .samples import PhotoSample, SceneSample
from .textures import log_uniform, random_shape, random_texture

MIN_CUTOUT_PIXELS = 150  # smaller objects are not worth cutting out
SMALL, LARGE = (16, 150), (90, 330)  # range of an outlier's longer side in pixels
LARGE_SHARE = 0.5  # of the outliers
MAX_OUTLIERS = 3  # in a crop
# Shares of the outliers: objects cut out of scenes, rendered ones; the others are random shapes.
CUTOUT_SHARE, RENDERED_SHARE = 0.25, 0.35
RETEXTURED_SHARE = 0.4  # of the rendered objects, which get another texture
MATCHED_SHARE = 0.5  # of the outliers, which get closer to the color and brightness of their place


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
    """Paste one to three outliers into an image, small ones below its top quarter.

    Args:
        image: [3, H, W] float32, 0..255.
        rng: source of outliers, sizes and positions.
        objects: rendered objects of scenes; an outlier is one of them, an object that is rendered alone, or a random
            shape.
        photos: samples whose images are textures of random shapes and of some objects.

    Returns:
        The image with the outliers, and their opacity, [H, W] float32 in [0, 1].
    """
    image, opacity = image.clone(), torch.zeros(image.shape[1:])
    height, width = image.shape[1:]
    for _ in range(int(rng.integers(1, MAX_OUTLIERS + 1))):
        longer_side = log_uniform(rng, *(LARGE if rng.random() < LARGE_SHARE else SMALL))
        pixels, mask = _draw_outlier(rng, longer_side, (height, width), objects, photos)
        pixels = photometric_jitter(pixels, rng).clamp(0, 255)
        h, w = mask.shape
        top = int(rng.integers(min(height // 4, height - h), height - h + 1))
        left = int(rng.integers(width - w + 1))
        rows, columns = slice(top, top + h), slice(left, left + w)
        if rng.random() < MATCHED_SHARE:
            pixels = _matched(pixels, mask, image[:, rows, columns], rng.uniform(0.3, 0.9))
        # soft edges, or the network would learn to detect the sharp edges of a cutout
        soft = F.avg_pool2d(mask[None, None], 3, 1, 1, count_include_pad=False)[0]
        image[:, rows, columns] = image[:, rows, columns] * (1 - soft) + pixels * soft
        opacity[rows, columns] = torch.maximum(opacity[rows, columns], mask)
    return image, opacity


def _draw_outlier(
    rng: np.random.Generator,
    longer_side: float,
    limits: tuple[int, int],
    objects: Sequence[Cutout],
    photos: Sequence[PhotoSample],
) -> tuple[Tensor, Tensor]:
    """Draw an outlier's pixels [3, h, w] and opacity [h, w], float32, no larger than ``limits``."""
    kind = rng.random()
    if objects and kind < CUTOUT_SHARE:
        return _resized(objects[int(rng.integers(len(objects)))], longer_side, limits)
    if kind < CUTOUT_SHARE + RENDERED_SHARE:
        rendered, inside = render_object(rng, int(np.clip(1.3 * longer_side, 64, 256)))
        cutout = Cutout(torch.from_numpy(rendered).permute(2, 0, 1), torch.from_numpy(inside))
        pixels, mask = _resized(cutout, longer_side, limits)
        if rng.random() < RETEXTURED_SHARE:
            brightness = pixels.mean(0)
            mean = (brightness * mask).sum() / mask.sum()
            pixels = random_texture(rng, photos, *mask.shape) * (brightness / mean.clamp_min(8)).clamp(0.3, 2)
        return pixels, mask
    sides = longer_side * rng.uniform((0.5, 0.5), (1, 1.3))
    h, w = (min(max(4, int(side)), limit) for side, limit in zip(sides, limits, strict=True))
    return random_texture(rng, photos, h, w), random_shape(rng, h, w)


def _resized(cutout: Cutout, longer_side: float, limits: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize a cutout: pixels [3, h, w] and opacity [h, w], float32."""
    sides = cutout.mask.shape
    scale = min(longer_side / max(sides), *(limit / side for limit, side in zip(limits, sides, strict=True)))
    h, w = (min(max(4, round(side * scale)), limit) for side, limit in zip(sides, limits, strict=True))
    pixels = F.interpolate(cutout.pixels[None].float(), (h, w), mode="bilinear", antialias=True)[0]
    mask = F.interpolate(cutout.mask[None, None].float(), (h, w), mode="bilinear", antialias=True)[0, 0]
    return pixels, mask.clamp(0, 1)


def _matched(pixels: Tensor, mask: Tensor, background: Tensor, share: float) -> Tensor:
    """Scale the channels of an outlier towards the mean of its background, all of the way for a ``share`` of 1."""
    own = (pixels * mask).sum((1, 2)) / mask.sum().clamp_min(1)
    gain = ((background.mean((1, 2)) + 10) / (own + 10)) ** share
    return (pixels * gain[:, None, None]).clamp(0, 255)
