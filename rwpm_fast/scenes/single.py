"""Render one unknown object without a scene, to paste into photos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .anomalies import draw_anomaly, draw_large_anomaly
from .canvas import Camera, Canvas
from .labels import UNKNOWN
from .lighting import Light
from .noise import Noise

LARGE_SHARE = 0.75  # of the objects; the others are those that lie in scenes
MIN_OBJECT_SHARE = 0.02  # of the pixels that the object covers


def render_object(rng: np.random.Generator, side: int) -> tuple[NDArray, NDArray]:
    """Render an unknown object from any side, in any light.

    Args:
        rng: source of everything about it.
        side: of the square image that it is rendered into and mostly fills, in pixels, 16 or more.

    Returns:
        pixels: [h, w, 3] uint8, h and w at most ``side``, black around the object.
        mask: [h, w] bool, where the object is; it touches all four borders.
    """
    while True:
        noise = Noise(rng)
        solid = (draw_large_anomaly if rng.random() < LARGE_SHARE else draw_anomaly)(rng, noise)
        largest = max(solid.size)
        distance, camera_height = largest * rng.uniform(1.3, 4), rng.uniform(0.6, 1.8)
        focal = 0.9 * distance / largest
        horizon = 0.5 - focal * (camera_height - solid.size[1] / 2) / distance  # the object's middle is the image's
        canvas = Canvas((side, side), Camera((0.0, camera_height, 0.0), focal, horizon, 0.0), np.zeros(3), np.inf)
        sun = rng.standard_normal(3)
        sun[1] = abs(sun[1]) + 0.2
        sun /= np.linalg.norm(sun)
        solid.paint(canvas, (0, 0, distance), rng.uniform(-np.pi, np.pi), _draw_light(rng), sun, 1)
        mask = canvas.class_map == UNKNOWN
        if mask.mean() >= MIN_OBJECT_SHARE:
            break
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    gamma = 1 / rng.uniform(1.6, 2.4)
    pixels = (255 * np.clip(canvas.color[window], 0, 1) ** gamma).astype(np.uint8)
    return pixels, mask[window]


def _draw_light(rng: np.random.Generator) -> Light:
    sky = rng.uniform(0.25, 1.0) * np.array([1, 1, rng.uniform(1, 1.15)])
    sun = rng.uniform(0, 1.2) * np.array([1, 0.95, 0.85]) if rng.random() < 0.7 else np.zeros(3)
    return Light(0, sky + sun, sky)
