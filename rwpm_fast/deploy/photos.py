"""What a photo must be for an exported network, which takes what it gets. Needs no torch."""

from __future__ import annotations

import numpy as np

# Smaller or longer photos leave the coarse maps of a network one row or column, for which a graph that is traced once
# need not hold.
MIN_SIDE = 64  # pixels
MAX_ASPECT = 8  # longer side to shorter


def check_photo(photo: np.ndarray) -> np.ndarray:
    """Check a photo.

    Args:
        photo: [H, W, 3] uint8, RGB, 0..255, both sides at least 64, one at most 8 times the other; any
            strides.

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
    if min(photo.shape[:2]) < MIN_SIDE:
        raise ValueError(f"photo: expected sides of at least {MIN_SIDE} pixels, got {list(photo.shape)}")
    if max(photo.shape[:2]) > MAX_ASPECT * min(photo.shape[:2]):
        raise ValueError(f"photo: expected a side of at most {MAX_ASPECT} times the other, got {list(photo.shape)}")
    return np.ascontiguousarray(photo)
