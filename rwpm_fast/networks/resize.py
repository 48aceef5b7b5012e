"""Resize photos before a network sees them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_photos(photos: Tensor, size: tuple[int, int], *, rounded: bool = False) -> Tensor:
    """Resize photos as Pillow's bilinear filter does: antialiased, and with ``rounded`` to whole numbers after each of
    its passes over rows and columns, halves up. Unrounded, other runtimes give the same digits where a half would be
    rounded the other way. Where the size stays, whole numbers do.

    Args:
        photos: [B, 3, H, W], uint8 or floating point in 0..255.
        size: new height and width.
        rounded: give whole numbers.

    Returns:
        [B, 3, height, width] float32 in 0..255.
    """
    photos = photos.float()
    for step in ((photos.shape[-2], size[1]), size) if rounded else (size,):
        photos = F.interpolate(photos, step, mode="bilinear", align_corners=False, antialias=True)
        photos = (photos + 0.5).floor() if rounded else photos
    return photos
