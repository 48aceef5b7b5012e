"""Resize photos before a network sees them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_photos(photos: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize photos as Pillow's bilinear filter does: antialiased, rows and columns apart, rounded after each, halves
    up. Where the size stays, whole numbers do.

    Args:
        photos: [B, 3, H, W], uint8 or floating point in 0..255.
        size: new height and width.

    Returns:
        [B, 3, height, width] float32, whole numbers in 0..255.
    """
    photos = photos.float()
    for step in ((photos.shape[-2], size[1]), size):
        photos = F.interpolate(photos, step, mode="bilinear", align_corners=False, antialias=True)
        photos = (photos + 0.5).floor()
    return photos
