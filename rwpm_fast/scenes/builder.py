"""Build a scene: draw what its contents share, collect what is to be painted, and paint it from far to near."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Camera, Canvas
from .houses import draw_houses, roof_heights
from .lighting import Lighting, add_glow
from .noise import Noise
from .props import PropPainter
from .road import Road, draw_road
from .solids import Solid
from .weather import Weather, draw_weather

HEADLIGHT, TAIL_LIGHT = np.array([1.0, 0.98, 0.9]) * 1.5, np.array([0.9, 0.05, 0.03]) * 0.8


class SceneBuilder:
    """A scene under construction: its weather, road, camera, houses and light, and the queue of what is to be painted.

    Positions are in road coordinates: x meters to the right of the center line, z meters along it, before the bend.

    Args:
        rng: source of everything that differs between two scenes.
        size: (height, width) in pixels.
        ego_z: z of the camera, at most 0. What is drawn does not depend on it, so that a generator in the same state
            gives the same world, seen from elsewhere.

    Attributes:
        rng: the same generator, for what is added to the scene.
        noise: texture of everything in the scene.
        weather: weather and time of day.
        road: layout of the road.
        ego_x: x of the camera.
        canvas: the image under construction.
        houses: along the road.
        lighting: light at any point.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], ego_z: float = 0.0) -> None:
        self.rng = rng
        self.noise = Noise(rng)
        self.weather: Weather = draw_weather(rng)
        self.road: Road = draw_road(rng)
        self.ego_x = float(self.road.lane_centers(1)[rng.integers(self.road.lanes[1])]) + rng.normal(0, 0.3)
        if rng.random() < 0.06 and self.road.sidewalk:
            self.ego_x = self.road.edges[1] + self.road.sidewalk / 2  # a view from the sidewalk
        camera = Camera(
            position=(self.ego_x, rng.uniform(1.1, 2.1), ego_z),
            focal=float(np.exp(rng.uniform(np.log(0.85), np.log(2.1)))),
            horizon=rng.uniform(0.30, 0.54),
            center_offset=rng.uniform(-0.16, 0.16),
        )
        self.canvas = Canvas(size, camera, self.weather.haze, self.weather.visibility)
        glass = np.array(self.weather.sky.zenith_color) * 0.5 + 0.25 * self.weather.ambient
        self.houses = draw_houses(rng, self.road, self.weather.lamp_brightness, glass)
        self.lighting = Lighting(self.weather, (self.ego_x, ego_z), self.road.facades, roof_heights(self.houses))
        self._queue: list[tuple[bool, float, Callable[[], None]]] = []  # (between the facades, z, paint)
        self._footprints: list[tuple[float, float, float, float]] = []  # of the solids: x, z, half width, half length

    def add(self, z: float, paint: Callable[[], None], *, between_facades: bool = True) -> None:
        """Queue something for painting.

        Args:
            z: its near end.
            paint: called to paint it.
            between_facades: whether it stands between the two rows of houses, and so in front of them.
        """
        self._queue.append((between_facades, z, paint))

    def props(self, x: float, z: float) -> PropPainter:
        """Return a painter of flat objects in the light at (x, z)."""
        return PropPainter(self.canvas, self.noise, self.lighting.at(x, z))

    def world_x(self, x: float, z: float) -> float:
        """Return x in the world of a point on the road, which the bend has moved."""
        return x + float(self.road.bend_offset(z))

    def add_solid(self, solid: Solid, x: float, z: float, yaw: float, *, lights: bool = False) -> int:
        """Queue a solid with its contact shadow, unless it is nearer than a meter to z = 0.

        Args:
            solid: what is painted.
            x: its center.
            z: its center.
            yaw: radians by which it is turned to the right from the direction of the road.
            lights: whether it has headlights and tail lights, which shine if the lamps of the weather do.

        Returns:
            The number that its pixels get, from 1; 0 if it is left out.
        """
        slope = float(self.road.bend_offset(z + 0.5) - self.road.bend_offset(z - 0.5))
        yaw = yaw + np.arctan(slope)
        half_length = abs(np.cos(yaw)) * solid.size[2] / 2 + abs(np.sin(yaw)) * solid.size[0] / 2
        half_width = abs(np.cos(yaw)) * solid.size[0] / 2 + abs(np.sin(yaw)) * solid.size[2] / 2
        near = z - half_length
        if near <= 1.0:
            return 0
        self._footprints.append((x, z, half_width, half_length))
        number = len(self._footprints)

        def paint() -> None:
            props, world_x = self.props(x, z), self.world_x(x, z)
            props.contact_shadow(world_x, z, 1.15 * half_width + 0.12, 1.1 * half_length + 0.12, 0.95)
            solid.paint(self.canvas, (world_x, 0.0, z), yaw, props.light, self.weather.sun_direction, number)
            if lights and self.weather.lamp_brightness:
                self._paint_vehicle_lights(world_x, near, yaw)

        left, right = self.road.facades
        self.add(near, paint, between_facades=left < x < right)
        return number

    def free_z(self, low: float, high: float, left: float, right: float) -> float:
        """Return the z in [low, high] at which a strip across the road, from x = left to right, is farthest from the
        solids that are queued.
        """
        candidates = np.linspace(low, high, 41)
        clearance = np.full(len(candidates), np.inf)
        for x, z, half_width, half_length in self._footprints:
            if left - half_width < x < right + half_width:
                clearance = np.minimum(clearance, abs(candidates - z) - half_length)
        return float(candidates[clearance.argmax()])

    def _paint_vehicle_lights(self, x: float, z: float, yaw: float) -> None:
        oncoming = np.cos(yaw) < 0
        color = self.weather.lamp_brightness * (HEADLIGHT if oncoming else TAIL_LIGHT)
        for side in (-0.65, 0.65):
            add_glow(self.canvas, (x + side * np.cos(yaw), 0.72, z - 0.05), 0.75 if oncoming else 0.3, color)

    def paint(self) -> None:
        """Paint the queue: first what stands behind the facades, then what stands between them, each far to near."""
        for _, _, paint in sorted(self._queue, key=lambda entry: (entry[0], -entry[1])):
            paint()
