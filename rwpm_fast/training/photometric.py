"""Photometric augmentation: other light, everywhere or in regions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .textures import log_uniform, random_shape

MAX_REGIONS = 3  # in other light
REGION_SIZES = (40, 500)  # range of a region's size in pixels
REGION_GAINS = (0.35, 1.7)  # range of the light in a region, relative to that around it
EDGE_WIDTHS = (1, 3, 9, 21)  # of a region in pixels, hard to soft


def photometric_jitter(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change gamma, exposure, white balance, saturation, blur and noise of an image at random.

    Args:
        image: [3, H, W] floating point, 0..255.
        rng: source of the changes.

    Returns:
        [3, H, W], about 0..255: neither rounded nor clipped.
    """
    gain = torch.tensor(rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3), dtype=torch.float32)[:, None, None]
    gamma = float(rng.uniform(0.7, 1.4))
    light = (image / 255).clamp(0, 1) ** gamma * gain
    gray = light.mean(0, keepdim=True)
    light = gray + (light - gray) * float(rng.uniform(0.4, 1.4))
    if rng.random() < 0.3:
        light = F.avg_pool2d(light[None], 3, 1, 1, count_include_pad=False)[0]
    noise = torch.from_numpy(rng.standard_normal(light.shape).astype(np.float32)) * float(rng.uniform(0, 0.03))
    return (light + noise) * 255


def relight_regions(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Darken or brighten one to three regions, as shadows, patches of asphalt and spots of sun do.

    Their outlines are those of random outliers, but what they show keeps its class: neither an outline nor a dark or
    bright region alone is an outlier.

    Args:
        image: [3, H, W] floating point, 0..255.
        rng: source of the regions and their light.

    Returns:
        [3, H, W], 0..255.
    """
    image = image.clone()
    height, width = image.shape[1:]
    for _ in range(int(rng.integers(1, MAX_REGIONS + 1))):
        size = log_uniform(rng, *REGION_SIZES)
        h = min(max(8, int(size * rng.uniform(0.4, 1.2))), height)
        w = min(max(8, int(size * rng.uniform(0.5, 1.5))), width)
        edge = int(rng.choice(EDGE_WIDTHS))
        share = F.avg_pool2d(random_shape(rng, h, w)[None], edge, 1, edge // 2)
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        gain = torch.from_numpy(log_uniform(rng, *REGION_GAINS) * rng.uniform(0.92, 1.08, 3)).float()[:, None, None]
        image[:, top : top + h, left : left + w] *= 1 + share * (gain - 1)
    return image.clamp(0, 255)
