"""Resize photos before a network sees them."""

from __future__ import annotations

import torch
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


def size_by_shorter_side(photo_size: tuple[int, int], shorter_side: int, longest_side: int) -> tuple[int, int]:
    """Return the size of a photo resized to a shorter side, or less where its longer one would exceed a longest side.

    It is ``side * min(shorter_side / shortest, longest_side / longest)``, rounded, halves up; in whole numbers and
    without a branch, so that an exported network follows the size of the photo, which is a symbol there.

    Args:
        photo_size: height and width.
        shorter_side: what the shorter one becomes.
        longest_side: what the longer one may become.
    """
    shortest, longest = torch.sym_min(*photo_size), torch.sym_max(*photo_size)
    part = 2 * shorter_side * longest_side
    whole = torch.sym_max(shortest * longest_side, longest * shorter_side)
    height, width = ((side * part + whole) // (2 * whole) for side in photo_size)
    return height, width
