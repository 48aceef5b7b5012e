"""Rendered scenes that no network was trained on, with labels of anomalies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.frames import ANOMALY
from .labels import anomaly_labels
from .render import render_scene

MIN_ANOMALY_SHARE = 0.002  # of the pixels: about ten pixels of the compact network's embedding map


def render_holdout_scene(seed: int = 0, size: tuple[int, int] = (512, 1024)) -> tuple[NDArray, NDArray]:
    """Render scenes until one shows enough of unknown objects; equal arguments give equal bits.

    Training draws its scenes from ``np.random.default_rng(seed)``. Hold-out scenes come from children of that seed
    (``np.random.SeedSequence(seed).spawn``), one child per scene, which no such generator equals.

    Args:
        seed: number of the scene, >= 0.
        size: (height, width) in pixels, each 16 or more.

    Returns:
        photo: [H, W, 3] uint8.
        labels: [H, W] uint8: 0 inlier, 1 anomaly (objects of no known class, at least 0.2 % of the pixels), 255 void
            (the hood of the ego vehicle).

    Raises:
        ValueError: a negative seed, or a size below 16.
    """
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    sequence = np.random.SeedSequence(seed)
    while True:
        photo, class_map = render_scene(np.random.default_rng(sequence.spawn(1)[0]), size)
        labels = anomaly_labels(class_map)
        if (labels == ANOMALY).mean() >= MIN_ANOMALY_SHARE:
            return photo, labels
