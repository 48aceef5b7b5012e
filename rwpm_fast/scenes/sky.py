"""Paint the background of a scene: the sky, and ridges along the horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .canvas import Canvas
from .labels import SKY, VEGETATION
from .noise import Noise

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Sky:
    """A sky with clouds; lengths are in image heights.

    Attributes:
        horizon_color: color [3] at the horizon.
        zenith_color: color [3] at the upper edge of the image.
        glow_color: light [3] around the sun.
        sun_position: of the sun, to the right of the vanishing point and above the horizon.
        cloud_color: color [3] of thin clouds.
        clear_share: share of the sky without clouds, roughly; 1 for a clear sky.
    """

    horizon_color: Color
    zenith_color: Color
    glow_color: Color
    sun_position: tuple[float, float]
    cloud_color: Color
    clear_share: float

    def paint(self, canvas: Canvas, noise: Noise) -> None:
        """Paint all rows above the horizon."""
        c, horizon = canvas, canvas.camera.horizon
        y = c.y[c.y[:, 0] < horizon]
        height = (horizon - y) / horizon  # 0 at the horizon
        blend = (height**0.55)[..., None]
        across, above = self.sun_position
        glow = np.exp(-((c.x - (c.center + across)) ** 2 / 0.18 + (y - horizon + above) ** 2 / 0.035))[..., None]
        color = np.array(self.horizon_color) * (1 - blend) + np.array(self.zenith_color) * blend
        color = color + glow * np.array(self.glow_color)
        # clouds lie on a plane overhead, so they are nearer to each other towards the horizon
        reach = 1 / (height + 0.10)
        clouds = noise((c.x - c.center) * reach * 1.1 + 9, reach * 1.7, octaves=4)
        cover = (np.clip((clouds - self.clear_share) * 4.5, 0, 1) * np.clip(height * 3.5, 0, 0.85))[..., None]
        cloud = np.array(self.cloud_color) - 0.24 * np.clip(clouds - 0.55, 0, 1)[..., None]
        c.color[: len(y)] = np.clip(color * (1 - cover) + cloud * cover, 0, 1)
        c.class_map[: len(y)] = SKY


def paint_ridge(
    canvas: Canvas,
    noise: Noise,
    peak_height: float,
    color: ArrayLike,
    seed: float,
    frequency: float,
    train_id: int = VEGETATION,
    roughness: tuple[int, float] = (5, 0.35),
    blocks: float = 0,
) -> None:
    """Paint a ridge along the horizon that fades into the haze at its foot.

    Args:
        canvas: to paint on.
        noise: shape of the ridge.
        peak_height: height of the peaks in image heights, roughly.
        color: [3].
        seed: any number; another one gives another shape.
        frequency: peaks per image height.
        train_id: class of the ridge.
        roughness: octaves of the noise, and height of the valleys in peak heights.
        blocks: steps per image height for a skyline of roofs; 0 for hills.
    """
    c, horizon = canvas, canvas.camera.horizon
    rows = (c.y[:, 0] > horizon - 1.5 * peak_height) & (c.y[:, 0] < horizon + 0.01)
    y = c.y[rows]
    octaves, valley_height = roughness
    x = np.floor(c.x * blocks) / blocks if blocks else c.x
    ridge = horizon - peak_height * (valley_height + noise(x * frequency, seed, octaves=octaves))
    fade = 0.6 * np.clip((y - ridge) / 0.09, 0, 1)[..., None]
    hill = np.array(color) * (1 - fade) + c.haze * fade
    c.color[rows] = np.where((y > ridge)[..., None], hill, c.color[rows])
    c.class_map[rows] = np.where(y > ridge, train_id, c.class_map[rows])
