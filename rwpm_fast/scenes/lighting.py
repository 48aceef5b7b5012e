"""Light at a place: the sky's, the sun's where no house stands before it, lamps', and our own headlights'."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Canvas
from .props import Light
from .weather import Weather

LAMP = np.array([1.0, 0.78, 0.48])
HEADLIGHT = np.array([0.95, 0.95, 0.88])
STEP = 0.5  # meters between the roofs' samples


@dataclass
class Lighting:
    """Light over the ground. Places are in the road's own coordinates: x to the right of its middle, z along it.

    Attributes:
        weather: decides on sky, sun and lamps.
        own: x of the camera, where the headlights shine from.
        facades: x of the rows of houses, left (< 0) and right.
        roofs: [2, n] heights of the rows of houses, one each ``STEP`` meters from z = 0.
        lamps: [m, 2] places (x, z) of the street lamps.
    """

    weather: Weather
    own: float
    facades: tuple[float, float]
    roofs: NDArray
    lamps: NDArray = field(default_factory=lambda: np.zeros((0, 2)))

    def sunlit(self, x: ArrayLike, z: ArrayLike) -> NDArray:
        """Share of the sun that reaches the ground at (x, z), in [0, 1]."""
        x, z = np.asarray(x, np.float32), np.asarray(z, np.float32)
        right, up, ahead = self.weather.towards
        if not self.weather.sun.any() or abs(right) < 0.05:
            return np.ones(np.broadcast_shapes(x.shape, z.shape), np.float32)
        row = int(right > 0)
        away = np.maximum((self.facades[row] - x) / np.float32(right), 0)  # towards the sun, in its unit vector
        sample = np.clip((z + away * np.float32(ahead)) / STEP, 0, self.roofs.shape[1] - 1).astype(np.int32)
        roof = self.roofs[row].astype(np.float32).take(sample)
        return 1 - np.clip((roof - away * np.float32(up)) * 2 + 0.5, 0, 1)

    def lamplight(self, x: ArrayLike, z: ArrayLike) -> NDArray:
        """Light [..., 3] of street lamps and our headlights at (x, z)."""
        x, z = np.asarray(x, np.float32), np.asarray(z, np.float32)
        if not self.weather.lamps:
            return np.zeros((*np.broadcast_shapes(x.shape, z.shape), 3), np.float32)
        pools = np.zeros(np.broadcast_shapes(x.shape, z.shape), np.float32)
        for lamp_x, lamp_z in self.lamps:
            pools += 1 / (1 + ((x - lamp_x) ** 2 + (z - lamp_z) ** 2) / 22) ** 1.5
        beam = np.exp(-((x - self.own) ** 2) / (2 + 0.25 * z) ** 2) * np.exp(-z / 22) * np.clip(z / 6, 0, 1)
        strength = np.float32(self.weather.lamps)
        return strength * (0.75 * pools[..., None] * LAMP + 0.85 * beam[..., None] * HEADLIGHT).astype(np.float32)

    def ground(self, x: ArrayLike, z: ArrayLike) -> NDArray:
        """Light [..., 3] on level ground at (x, z)."""
        sun = self.sunlit(x, z)[..., None] * self.weather.sun.astype(np.float32)
        return self.weather.ambient.astype(np.float32) + sun + self.lamplight(x, z)

    def at(self, x: float, z: float) -> Light:
        """Light on a thing that stands at (x, z)."""
        shadow = self.weather.ambient + self.lamplight(x, z)
        sun = self.weather.sun * self.sunlit(x, z)
        side = float(np.clip(2 * self.weather.towards[0], -1, 1)) if sun.any() else 0.0
        return Light(side, shadow + sun, shadow)


def glow(canvas: Canvas, place: ArrayLike, radius: float, color: ArrayLike) -> None:
    """Add a halo of ``radius`` meters around a lamp at ``place`` [3] in the world."""
    x, y, z = np.asarray(place, float)
    corners = np.array([(x - 3 * radius, y - 3 * radius, z), (x + 3 * radius, y + 3 * radius, z)])
    rows, columns = canvas.window(corners)
    camera = canvas.camera
    depth = z - camera.place[2]
    u = (canvas.x[:, columns] - canvas.center) / camera.focal * depth + camera.place[0] - x
    v = (camera.horizon - canvas.y[rows]) / camera.focal * depth + camera.place[1] - y
    halo = np.exp(-3 * np.hypot(u, v) / radius) * np.exp(-depth / canvas.visibility)
    canvas.color[rows, columns] += halo[..., None] * np.asarray(color)
