"""Light at a point of the scene: from the sky, the sun if no house blocks it, street lamps and our headlights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import NEAR_PLANE, Canvas
from .weather import Weather

LAMP_COLOR = np.array([1.0, 0.78, 0.48])
HEADLIGHT_COLOR = np.array([0.95, 0.95, 0.88])
ROOF_SPACING = 0.5  # meters between two samples of the height of the roofs


@dataclass(frozen=True)
class Light:
    """The light on an object: colors [3] that its own colors are multiplied by.

    Attributes:
        sun_side: where the sun stands: -1 left, 1 right, 0 for no sun.
        sunlit: light in the sun.
        shadow: light in the shade.
    """

    sun_side: float
    sunlit: NDArray
    shadow: NDArray


@dataclass
class Lighting:
    """Light over the ground, in road coordinates: x to the right of the road's center line, z along it.

    Attributes:
        weather: decides on sky, sun and lamps.
        ego: (x, z) of the camera, from where the headlights shine.
        facades: x of the rows of houses, left (< 0) and right.
        roof_heights: [2, n] meters, of the left and the right row of houses, one every ``ROOF_SPACING`` meters from
            z = 0.
        lamp_positions: [m, 2] (x, z) of the street lamps.
    """

    weather: Weather
    ego: tuple[float, float]
    facades: tuple[float, float]
    roof_heights: NDArray
    lamp_positions: NDArray = field(default_factory=lambda: np.zeros((0, 2)))

    def sunlit_share(self, x: ArrayLike, z: ArrayLike) -> NDArray:
        """Return the share of the sun's light that reaches the ground at (x, z), in [0, 1]."""
        x, z = np.asarray(x, np.float32), np.asarray(z, np.float32)
        right, up, ahead = self.weather.sun_direction
        if not self.weather.sun.any() or abs(right) < 0.05:
            return np.ones(np.broadcast_shapes(x.shape, z.shape), np.float32)
        row = int(right > 0)
        # distance along the sun's unit vector to the row of houses
        away = np.maximum((self.facades[row] - x) / np.float32(right), 0)
        last = self.roof_heights.shape[1] - 1
        sample = np.clip((z + away * np.float32(ahead)) / ROOF_SPACING, 0, last).astype(np.int32)
        roof = self.roof_heights[row].astype(np.float32).take(sample)
        return 1 - np.clip((roof - away * np.float32(up)) * 2 + 0.5, 0, 1)

    def lamplight(self, x: ArrayLike, z: ArrayLike) -> NDArray:
        """Return the light [..., 3] of street lamps and our headlights at (x, z)."""
        x, z = np.asarray(x, np.float32), np.asarray(z, np.float32)
        if not self.weather.lamp_brightness:
            return np.zeros((*np.broadcast_shapes(x.shape, z.shape), 3), np.float32)
        pools = np.zeros(np.broadcast_shapes(x.shape, z.shape), np.float32)
        for lamp_x, lamp_z in self.lamp_positions:
            pools += 1 / (1 + ((x - lamp_x) ** 2 + (z - lamp_z) ** 2) / 22) ** 1.5
        ego_x, ego_z = self.ego
        ahead = z - np.float32(ego_z)
        beam = np.exp(-((x - ego_x) ** 2) / (2 + 0.25 * ahead) ** 2) * np.exp(-ahead / 22) * np.clip(ahead / 6, 0, 1)
        light = 0.75 * pools[..., None] * LAMP_COLOR + 0.85 * beam[..., None] * HEADLIGHT_COLOR
        return np.float32(self.weather.lamp_brightness) * light.astype(np.float32)

    def ground(self, x: ArrayLike, z: ArrayLike) -> NDArray:
        """Return the light [..., 3] on level ground at (x, z)."""
        sun = self.sunlit_share(x, z)[..., None] * self.weather.sun.astype(np.float32)
        return self.weather.ambient.astype(np.float32) + sun + self.lamplight(x, z)

    def at(self, x: float, z: float) -> Light:
        """Return the light on an object that stands at (x, z)."""
        shadow = self.weather.ambient + self.lamplight(x, z)
        sun = self.weather.sun * self.sunlit_share(x, z)
        side = float(np.clip(2 * self.weather.sun_direction[0], -1, 1)) if sun.any() else 0.0
        return Light(side, shadow + sun, shadow)


def add_glow(canvas: Canvas, position: ArrayLike, radius: float, color: ArrayLike) -> None:
    """Add the halo of a lamp to the canvas.

    Args:
        canvas: to paint on.
        position: [3] of the lamp in the world, meters.
        radius: of the halo, meters.
        color: [3] of the light.
    """
    x, y, z = np.asarray(position, float)
    if z - canvas.camera.position[2] < NEAR_PLANE:
        return
    corners = np.array([(x - 3 * radius, y - 3 * radius, z), (x + 3 * radius, y + 3 * radius, z)])
    rows, columns = canvas.bounding_box(corners)
    camera = canvas.camera
    depth = z - camera.position[2]
    u = (canvas.x[:, columns] - canvas.center) / camera.focal * depth + camera.position[0] - x
    v = (camera.horizon - canvas.y[rows]) / camera.focal * depth + camera.position[1] - y
    halo = np.exp(-3 * np.hypot(u, v) / radius) * np.exp(-depth / canvas.visibility)
    canvas.color[rows, columns] += halo[..., None] * np.asarray(color)
