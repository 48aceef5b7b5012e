"""The picture of the demo: a street at low sun with something on the road that no class is for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..scenes.camera_response import Film
from ..scenes.canvas import Camera, Canvas, Noise
from ..scenes.labels import CAR, ROAD, SIDEWALK, TERRAIN
from ..scenes.props import Facade, Light, Things, Tree
from ..scenes.sky import Sky, paint_ridge

SHADOW = np.array([0.50, 0.54, 0.66])  # sunlight gone, light of the sky left
SUNLIT = np.array([1.12, 1.02, 0.86])
KERB, FACADE = 7.0, 11.5  # meters from the road's middle
SUPERSAMPLING = 2


def paint_street(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """Paint a street.

    Args:
        rng: decides on everything that differs between two streets.
        size: (height, width) in pixels.

    Returns:
        photo: [H, W, 3] uint8.
        class_map: [H, W] uint8, Cityscapes train ids, ``UNKNOWN`` on the obstacle, ``EGO`` on our own car.
    """
    height, width = size
    camera = Camera(shift=rng.uniform(-0.06, 0.06))
    canvas = Canvas((height * SUPERSAMPLING, width * SUPERSAMPLING), camera, (0.90, 0.81, 0.72))
    street = _Street(rng, canvas)
    street.paint()
    color = canvas.color.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3).mean((1, 3))
    return Film().develop(rng, color), canvas.class_map[::SUPERSAMPLING, ::SUPERSAMPLING].copy()


class _Street:
    def __init__(self, rng: np.random.Generator, canvas: Canvas) -> None:
        self.rng = rng
        self.canvas = canvas
        self.noise = Noise(rng)
        self.sun = int(rng.choice([-1, 1]))  # side of the road the sun stands on
        self.things = Things(canvas, self.noise, Light(self.sun, SUNLIT, SHADOW))

    def paint(self) -> None:
        Sky((1.00, 0.86, 0.66), (0.30, 0.50, 0.78), (0.30, 0.20, 0.04), (0.62 * self.sun, 0.06)).paint(
            self.canvas, self.noise
        )
        paint_ridge(self.canvas, self.noise, 0.10, (0.62, 0.66, 0.74), 3.0, 1.6)
        paint_ridge(self.canvas, self.noise, 0.055, (0.45, 0.53, 0.50), 8.0, 2.6)
        houses = [house for side in (-1, 1) for house in self.row(side)]
        self.ground([house for house in houses if house[0] == self.sun])
        for house in sorted(houses, key=lambda house: -house[1]):
            self.house(*house)
        things = self.furniture() + self.traffic()
        x, z = self.rng.uniform(-0.2, 2.8), self.rng.uniform(6.8, 8.2)
        unknown = self.things.crate if self.rng.random() < 0.5 else self.things.animal
        things.append((z, lambda: unknown(self.rng, x, z, 1.0)))
        for _, draw in sorted(things, key=lambda thing: -thing[0]):
            draw()
        self.things.bonnet(0.955, (0.10, 0.11, 0.13))

    def ground(self, houses: list[tuple]) -> None:
        """Road, kerb, sidewalk and grass, with the shadows of the houses on the sun's side."""
        c = self.canvas
        p = c.patch((-150, 0, 0.6), (300, 0, 0), (0, 0, 900))
        x, z = p.a - 150, p.b + 0.6
        near = np.clip(14 / z, 0, 1)  # fine grain melts into its mean with distance
        grain = (self.noise(x * 22, z * 22, octaves=2) - 0.5) * near
        stains = self.noise(x * 0.9 + 50, z * 0.15, octaves=3) - 0.5

        grass = self.noise(x * 1.2, z * 0.6)[..., None] * np.array([0.20, 0.22, 0.10]) + np.array([0.26, 0.32, 0.13])
        c.paint(p, abs(x) > FACADE - 1.2, grass + 0.12 * grain[..., None], TERRAIN)
        slab = (np.mod(x - KERB, 1.1) < 0.04) | (np.mod(z, 1.4) < 0.05)
        paving = 0.60 + 0.10 * stains + 0.10 * grain - 0.10 * slab * near
        c.paint(p, abs(x) < FACADE - 1.2, paving[..., None] * np.array([1.0, 0.95, 0.89]), SIDEWALK)
        c.paint(p, abs(x) < KERB + 0.22, (0.72 + 0.10 * grain)[..., None] * np.ones(3), SIDEWALK)
        ruts = np.cos((abs(x) - 1.75) * 2 * np.pi / 1.8) * (abs(x) < 3.5)
        asphalt = 0.40 + 0.11 * grain + 0.09 * stains - 0.015 * ruts
        c.paint(p, abs(x) < KERB, asphalt[..., None] * np.array([0.93, 0.97, 1.06]), ROAD)
        c.paint(p, abs(abs(x) - KERB + 0.35) < 0.30, (asphalt * 0.88)[..., None] * np.array([0.95, 0.97, 1.02]), None)

        wear = np.clip(self.noise(x * 6, z * 3, octaves=3) * 3 - 0.55, 0.25, 0.92)
        dashes = (abs(x) < 0.08) & (np.mod(z, 6.0) < 3.0)
        edges = abs(abs(x) - 3.75) < 0.065
        c.paint(p, (dashes | edges) * wear, (0.93, 0.92, 0.88), None)

        sunlit = np.ones_like(x)
        wobble = 0.5 * (self.noise(x * 1.5, z * 1.5, octaves=2) - 0.5)
        for side, start, stop, height, _ in houses:
            reach = FACADE - 0.85 * height  # the shadow of the roof, in meters from the middle on the sun's side
            slanted = z - 0.25 * (FACADE - side * x)
            shadow = np.clip((side * x - reach) * 4 + 0.5, 0, 1)
            along = np.clip(np.minimum(slanted - start, stop - slanted) * 4 + 0.5 + wobble, 0, 1)
            sunlit = np.minimum(sunlit, 1 - shadow * along)
        light = sunlit[..., None] * SUNLIT + (1 - sunlit[..., None]) * SHADOW
        c.color[p.window] *= np.where(p.inside[..., None], light, 1)

    def row(self, side: int) -> list[tuple[int, float, float, float, int]]:
        """Houses along one side: (side, start, stop, height, seed of the facade)."""
        houses, z = [], self.rng.uniform(4, 9)
        while z < 120:
            length = self.rng.uniform(9, 19)
            houses.append((side, z, z + length, self.rng.uniform(8, 19), int(self.rng.integers(2**31))))
            z += length + self.rng.choice([0.0, 0.4, 5.0, 9.0])
        return houses

    def house(self, side: int, start: float, stop: float, height: float, seed: int) -> None:
        corner, up = (side * FACADE, 0, start), (0, height, 0)
        front = self.canvas.patch(corner, (0, 0, stop - start), up)
        gable = self.canvas.patch(corner, (side * 14, 0, 0), up)
        light = SHADOW if side == self.sun else SUNLIT
        self.things.house([(gable, SHADOW * 1.05), (front, light)], height, seed, Facade())

    def furniture(self) -> list[tuple[float, Callable[[], None]]]:
        """Trees, lamps and signs, each with its distance."""
        things: list[tuple[float, Callable[[], None]]] = []
        for side in (-1, 1):
            z = self.rng.uniform(9, 13)
            while z < 95:
                x, scale, seed = (
                    side * self.rng.uniform(8.7, 9.5),
                    self.rng.uniform(0.8, 1.15),
                    self.rng.uniform(0, 200),
                )
                light = SUNLIT if side != self.sun else SHADOW * 1.25
                place = x, z, scale, seed, light
                things.append((z, lambda place=place: self.things.tree(*place, Tree())))
                z += self.rng.uniform(8, 15)
            for z in np.arange(self.rng.uniform(10, 16), 90, 21.0):
                things.append((z, lambda side=side, z=z: self.things.lamp(side * 7.55, z, side, 1.0)))
            z = self.rng.uniform(11, 26)
            things.append((z, lambda side=side, z=z: self.things.sign(side * 7.6, z, 1.0)))
        return things

    def traffic(self) -> list[tuple[float, Callable[[], None]]]:
        """Parked cars on both sides, one ahead and one that comes towards us."""
        paints = np.array(
            [(0.62, 0.10, 0.09), (0.16, 0.26, 0.46), (0.80, 0.80, 0.78), (0.22, 0.23, 0.25), (0.30, 0.40, 0.34)]
        )
        places = [(1.8, self.rng.uniform(22, 32), False), (-1.8, self.rng.uniform(15, 26), True)]
        for side in (-1, 1):
            z = self.rng.uniform(9, 15)
            for _ in range(4):
                places.append((side * 5.6, z, side < 0))
                z += self.rng.uniform(6, 14)
        colors = paints[self.rng.integers(len(paints), size=len(places))]
        return [
            (z, lambda x=x, z=z, towards=towards, color=color: self.car(x, z, towards, color))
            for (x, z, towards), color in zip(places, colors, strict=True)
        ]

    def car(self, x: float, z: float, towards: bool, color: NDArray) -> None:
        """A car as a stack of cross-sections, the farthest first; ``along`` runs from its tail to its nose."""
        c, length = self.canvas, 4.3
        self.things.contact(x, z + length / 2, 1.35, 2.5, 1.0)
        for offset in np.linspace(length, 0, 44):
            along = length - offset if towards else offset
            top = np.interp(
                along, [0, 0.25, 0.9, 1.5, 2.5, 3.3, 4.2, 4.3], [0.86, 1.0, 1.44, 1.5, 1.46, 0.98, 0.8, 0.7]
            )
            p = c.upright(x, z + offset, 2.0, 1.6)
            u, v = p.a - 1.0, p.b
            half = 0.88 - 0.42 * np.clip(v - 0.92, 0, 1) - 0.10 * np.clip(0.35 - v, 0, 1)
            body = (abs(u) < half) & (v > 0.22) & (v < top)
            facing = np.clip(0.5 + 0.5 * self.sun * u / 0.9, 0, 1)[..., None]
            sheen = (0.72 + 0.34 * np.clip(v, 0, 1.5))[..., None] * (facing * SUNLIT + (1 - facing) * SHADOW * 1.15)
            c.paint(p, body, color * sheen, CAR)
            cabin = body & (v > 0.96) & (0.35 < along < 3.2)
            pillar = abs(along - 1.7) < 0.06
            side = abs(u) > half - 0.09
            screen = ~side & ((along < 0.85) | (along > 2.6))
            glass = cabin & ((side & (v < 1.36) & (0.75 < along < 2.9) & ~pillar) | screen)
            c.paint(p, glass, np.array([0.13, 0.16, 0.20]) + 0.16 * np.clip(v - 1, 0, 1)[..., None], CAR)
            wheel = min(abs(along - 0.85), abs(along - 3.4))
            tyre = (abs(u) > 0.62) & (abs(u) < 0.90) & (np.hypot(wheel, v - 0.32) < 0.32)
            c.paint(p, tyre, np.full(3, 0.07) + 0.2 * (np.hypot(wheel, v - 0.32) < 0.17)[..., None], CAR)
        lamps = (abs(u) > 0.52) & (abs(u) < 0.82) & (abs(v - 0.70) < 0.09)
        c.paint(p, body & (v < 0.42), color * 0.3 + 0.05, CAR)
        c.paint(p, lamps, (0.96, 0.95, 0.86) if towards else (0.72, 0.05, 0.04), CAR)
        c.paint(p, (abs(u) < 0.26) & (abs(v - 0.52) < 0.06), (0.85, 0.85, 0.80), CAR)
