"""What a photo must be for an exported network, which takes what it gets. Needs no torch."""

from __future__ import annotations

import numpy as np

MIN_SIDE = 64  # pixels; some networks need more


def check_photo(photo: np.ndarray, min_side: int = MIN_SIDE) -> np.ndarray:
    """Check a photo.

    Args:
        photo: [H, W, 3] uint8, RGB, 0..255, both sides at least ``min_side``; any strides.
        min_side: in pixels; that of an export is in its metadata.

    Returns:
        The photo in contiguous memory, itself if it is.

    Raises:
        TypeError: it is no array of uint8.
        ValueError: it has another shape.
    """
    if not isinstance(photo, np.ndarray):
        raise TypeError(f"photo: expected a numpy.ndarray, got {type(photo).__name__}")
    if photo.dtype != np.uint8:
        raise TypeError(f"photo: expected dtype uint8 with values in 0..255, got {photo.dtype}")
    if photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"photo: expected shape [H, W, 3], got {list(photo.shape)}")
    if min(photo.shape[:2]) < min_side:
        raise ValueError(f"photo: expected sides of at least {min_side} pixels, got {list(photo.shape)}")
    return np.ascontiguousarray(photo)
