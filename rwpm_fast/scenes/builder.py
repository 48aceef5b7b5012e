"""The stage of a scene: weather, road, camera and light, and the order in which things are painted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Camera, Canvas, Noise
from .houses import draw_houses, roofs
from .lighting import Lighting, glow
from .props import Things
from .road import Road, draw_road
from .solids import Solid
from .weather import Weather, draw_weather


class Stage:
    """What all things of a scene share; everything that differs between two scenes comes from ``rng``.

    Places are x meters to the right of the road's middle and z meters along it, before the road's bend.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng = rng
        self.noise = Noise(rng)
        self.weather: Weather = draw_weather(rng)
        self.road: Road = draw_road(rng)
        self.own = float(self.road.lane_middles(1)[rng.integers(self.road.lanes[1])]) + rng.normal(0, 0.3)
        if rng.random() < 0.06 and self.road.walk:
            self.own = self.road.edges[1] + self.road.walk / 2  # from the sidewalk
        camera = Camera(
            place=(self.own, rng.uniform(1.1, 2.1), 0.0),
            focal=float(np.exp(rng.uniform(np.log(0.85), np.log(2.1)))),
            horizon=rng.uniform(0.30, 0.54),
            shift=rng.uniform(-0.16, 0.16),
        )
        self.canvas = Canvas(size, camera, self.weather.haze, self.weather.visibility)
        glass = np.array(self.weather.sky.high) * 0.5 + 0.25 * self.weather.ambient
        self.houses = draw_houses(rng, self.road, self.weather.lamps, glass)
        self.lighting = Lighting(self.weather, self.own, self.road.facades, roofs(self.houses))
        self.draws: list[tuple[bool, float, Callable[[], None]]] = []  # each with whether it stands inside, and how far

    def add(self, z: float, draw: Callable[[], None], inside: bool = True) -> None:
        """Have something painted; ``inside`` the two rows of houses means before them, seen from the road."""
        self.draws.append((inside, z, draw))

    def things(self, x: float, z: float) -> Things:
        """What paints flat things in the light at (x, z)."""
        return Things(self.canvas, self.noise, self.lighting.at(x, z))

    def world(self, x: float, z: float) -> float:
        """x in the world of a place on the road, moved by the bend."""
        return x + float(self.road.shift(z))

    def solid(self, solid: Solid, x: float, z: float, yaw: float, lamps: bool = False) -> None:
        """A solid with its middle at (x, z), turned from the road's direction by ``yaw`` radians."""
        slope = float(self.road.shift(z + 0.5) - self.road.shift(z - 0.5))
        yaw = yaw + np.arctan(slope)
        reach = abs(np.cos(yaw)) * solid.size[2] / 2 + abs(np.sin(yaw)) * solid.size[0] / 2
        wide = abs(np.cos(yaw)) * solid.size[0] / 2 + abs(np.sin(yaw)) * solid.size[2] / 2
        if z - reach > 1.0:
            left, right = self.road.facades
            draw = lambda: self._paint_solid(solid, x, z, yaw, (wide, reach), lamps)  # noqa: E731
            self.add(z - reach, draw, inside=left < x < right)

    def _paint_solid(
        self, solid: Solid, x: float, z: float, yaw: float, extent: tuple[float, float], lamps: bool
    ) -> None:
        things, at = self.things(x, z), self.world(x, z)
        wide, reach = extent
        things.contact(at, z, 1.15 * wide + 0.12, 1.1 * reach + 0.12, 0.95)
        solid.paint(self.canvas, (at, 0.0, z), yaw, things.light, self.weather.towards)
        if lamps and self.weather.lamps:
            towards = np.cos(yaw) < 0
            for side in (-0.65, 0.65):
                color = np.array([1.0, 0.98, 0.9]) * 1.5 if towards else np.array([0.9, 0.05, 0.03]) * 0.8
                place = at + side * np.cos(yaw), 0.72, z - reach - 0.05
                glow(self.canvas, place, 0.75 if towards else 0.3, self.weather.lamps * color)

    def draw(self) -> None:
        """Paint what was added: outside the rows of houses first, then inside; the farthest first."""
        for _, _, draw in sorted(self.draws, key=lambda entry: (entry[0], -entry[1])):
            draw()
