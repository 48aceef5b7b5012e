"""Rendered streets to look at without a photo at hand; their anomalies are known."""

from __future__ import annotations

from functools import lru_cache

from ..scenes import render_holdout_scene
from .session import Picture

KEPT = 8
MAX_SEED = 2**31 - 1


@lru_cache(maxsize=KEPT)
def sample(seed: int, size: tuple[int, int] = (512, 1024)) -> Picture:
    """Render a street that no network was trained on.

    Args:
        seed: number of the street, 0 or more.
        size: height and width.
    """
    photo, labels = render_holdout_scene(seed, size)
    return Picture(f"Street {seed}", photo, labels, size)
