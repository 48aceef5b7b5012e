"""What lies behind the things of a street: the sky, and ridges along the horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .canvas import Canvas, Noise
from .labels import SKY, VEGETATION

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Sky:
    """Colors of a sky with clouds; lengths are image heights.

    Attributes:
        low: at the horizon.
        high: at the upper edge.
        glow: light around the sun.
        sun: the sun's place, right of the vanishing point and above the horizon.
        cloud: color of the clouds where they are thin.
        clear: share of the sky without clouds, roughly; 1 for none.
    """

    low: Color
    high: Color
    glow: Color
    sun: tuple[float, float]
    cloud: Color = (1.0, 0.95, 0.90)
    clear: float = 0.50

    def paint(self, canvas: Canvas, noise: Noise, octaves: int = 5) -> None:
        """Paint all rows above the horizon."""
        c, horizon = canvas, canvas.camera.horizon
        y = c.y[c.y[:, 0] < horizon]
        height = (horizon - y) / horizon  # 0 at the horizon
        blend = (height**0.55)[..., None]
        across, above = self.sun
        glow = np.exp(-((c.x - (c.center + across)) ** 2 / 0.18 + (y - horizon + above) ** 2 / 0.035))[..., None]
        color = np.array(self.low) * (1 - blend) + np.array(self.high) * blend + glow * np.array(self.glow)
        # clouds lie on a plane overhead, hence the division by the height above the horizon
        reach = 1 / (height + 0.10)
        clouds = noise((c.x - c.center) * reach * 1.1 + 9, reach * 1.7, octaves=octaves)
        cover = (np.clip((clouds - self.clear) * 4.5, 0, 1) * np.clip(height * 3.5, 0, 0.85))[..., None]
        cloud = np.array(self.cloud) - 0.24 * np.clip(clouds - 0.55, 0, 1)[..., None]
        c.color[: len(y)] = np.clip(color * (1 - cover) + cloud * cover, 0, 1)
        c.class_map[: len(y)] = SKY


def paint_ridge(
    canvas: Canvas,
    noise: Noise,
    top: float,
    color: ArrayLike,
    seed: float,
    scale: float,
    train_id: int = VEGETATION,
    roughness: tuple[int, float] = (5, 0.35),
    blocks: float = 0,
) -> None:
    """Paint a ridge along the horizon that fades into the haze at its foot.

    Args:
        top: height of its peaks in image heights, about.
        color: [3].
        seed: any number, for its shape.
        scale: its peaks in an image height.
        roughness: octaves of the noise, and how high the valleys are in peaks.
        blocks: steps in an image height for a skyline of roofs, 0 for hills.
    """
    c, horizon = canvas, canvas.camera.horizon
    rows = (c.y[:, 0] > horizon - 1.5 * top) & (c.y[:, 0] < horizon + 0.01)
    y = c.y[rows]
    octaves, foot = roughness
    x = np.floor(c.x * blocks) / blocks if blocks else c.x
    ridge = horizon - top * (foot + noise(x * scale, seed, octaves=octaves))
    fade = 0.6 * np.clip((y - ridge) / 0.09, 0, 1)[..., None]
    hill = np.array(color) * (1 - fade) + c.haze * fade
    c.color[rows] = np.where((y > ridge)[..., None], hill, c.color[rows])
    c.class_map[rows] = np.where(y > ridge, train_id, c.class_map[rows])
