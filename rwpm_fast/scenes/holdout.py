"""A painted street that the compact network did not learn from, with its ground truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .labels import ANOMALY, EGO, INLIER, UNKNOWN, VOID
from .render import paint_scene

LEAST = 0.002  # share of the pixels: some ten of the compact network's embedding map


def unseen_street(seed: int = 0, size: tuple[int, int] = (512, 1024)) -> tuple[NDArray, NDArray]:
    """Paint street scenes until one shows enough of what no class is for; equal arguments give equal bits.

    Training draws its scenes from ``np.random.default_rng(seed)``. These come from children of that seed, one child a
    scene, whose numbers no such generator gives.

    Args:
        seed: number of the street, >= 0.
        size: (height, width) in pixels, each 16 or more.

    Returns:
        photo: [H, W, 3] uint8.
        labels: [H, W] uint8: 0 where a class is, 1 on what no class is for (0.2 % of the pixels or more), 255 on the
            bonnet of our own car.

    Raises:
        ValueError: a negative seed, or a size below 16.
    """
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    family = np.random.SeedSequence(seed)
    while True:
        photo, class_map = paint_scene(np.random.default_rng(family.spawn(1)[0]), size)
        labels = np.full(size, INLIER, np.uint8)
        labels[class_map == UNKNOWN] = ANOMALY
        labels[class_map == EGO] = VOID
        if (labels == ANOMALY).mean() >= LEAST:
            return photo, labels
