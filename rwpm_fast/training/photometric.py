"""Photometric augmentation."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


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
