"""The picture of the demo: a street at low sun with something on the road that no class is for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .canvas import HORIZON, Canvas, Noise, Patch

ROAD, SIDEWALK, BUILDING, POLE, TRAFFIC_SIGN = 0, 1, 2, 5, 7
VEGETATION, TERRAIN, SKY, CAR = 8, 9, 10, 13  # Cityscapes train ids
UNKNOWN, EGO = 255, 254  # the obstacle, and our own car at the lower edge

SHADOW = np.array([0.50, 0.54, 0.66])  # sunlight gone, light of the sky left
SUNLIT = np.array([1.12, 1.02, 0.86])
KERB, FACADE = 7.0, 11.5  # metres from the road's middle
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
    canvas = Canvas((height * SUPERSAMPLING, width * SUPERSAMPLING), rng.uniform(-0.06, 0.06), (0.90, 0.81, 0.72))
    street = _Street(rng, canvas)
    street.paint()
    colour = canvas.colour.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3).mean((1, 3))
    return _develop(rng, colour), canvas.class_map[::SUPERSAMPLING, ::SUPERSAMPLING].copy()


def _develop(rng: np.random.Generator, colour: NDArray) -> NDArray:
    """Film: vignette, contrast and grain. Colours [H, W, 3] in [0, 1] to uint8."""
    height, width, _ = colour.shape
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    colour = np.clip(colour * (1 - 0.16 * (x**2 + y**2))[..., None], 0, 1)
    colour = 0.75 * colour + 0.25 * colour**2 * (3 - 2 * colour)
    grain = 0.012 * rng.standard_normal((height, width, 1)) + 0.006 * rng.standard_normal((height, width, 3))
    return (np.clip(colour + grain, 0, 1) * 255 + 0.5).astype(np.uint8)


class _Street:
    def __init__(self, rng: np.random.Generator, canvas: Canvas) -> None:
        self.rng = rng
        self.canvas = canvas
        self.noise = Noise(rng)
        self.sun = int(rng.choice([-1, 1]))  # side of the road the sun stands on

    def paint(self) -> None:
        self.sky()
        self.hills()
        houses = [house for side in (-1, 1) for house in self.row(side)]
        self.ground([house for house in houses if house[0] == self.sun])
        for house in sorted(houses, key=lambda house: -house[1]):
            self.house(*house)
        things = self.furniture() + self.traffic()
        x, z = self.rng.uniform(-0.2, 2.8), self.rng.uniform(6.8, 8.2)
        unknown = self.crate if self.rng.random() < 0.5 else self.animal
        things.append((z, lambda: unknown(x, z)))
        for _, draw in sorted(things, key=lambda thing: -thing[0]):
            draw()
        self.bonnet()

    def sky(self) -> None:
        c = self.canvas
        y = c.y[c.y[:, 0] < HORIZON]
        height = (HORIZON - y) / HORIZON  # 0 at the horizon
        low, high = np.array([1.00, 0.86, 0.66]), np.array([0.30, 0.50, 0.78])
        blend = (height**0.55)[..., None]
        sun = c.centre + 0.62 * self.sun
        glow = np.exp(-((c.x - sun) ** 2 / 0.18 + (y - HORIZON + 0.06) ** 2 / 0.035))[..., None]
        colour = low * (1 - blend) + high * blend + glow * np.array([0.30, 0.20, 0.04])
        # clouds lie on a plane overhead, hence the division by the height above the horizon
        reach = 1 / (height + 0.10)
        clouds = self.noise((c.x - c.centre) * reach * 1.1 + 9, reach * 1.7, octaves=5)
        cover = (np.clip((clouds - 0.50) * 4.5, 0, 1) * np.clip(height * 3.5, 0, 0.85))[..., None]
        white = np.array([1.0, 0.95, 0.90]) - 0.24 * np.clip(clouds - 0.55, 0, 1)[..., None]
        c.colour[: len(y)] = np.clip(colour * (1 - cover) + white * cover, 0, 1)
        c.class_map[: len(y)] = SKY

    def hills(self) -> None:
        c = self.canvas
        rows = (c.y[:, 0] > HORIZON - 0.15) & (c.y[:, 0] < HORIZON + 0.01)
        y = c.y[rows]
        for layer, (top, colour) in enumerate(((0.10, (0.62, 0.66, 0.74)), (0.055, (0.45, 0.53, 0.50)))):
            ridge = HORIZON - top * (0.35 + self.noise(c.x * (1.6 + layer), 3.0 + 5 * layer, octaves=5))
            fade = 0.6 * np.clip((y - ridge) / 0.09, 0, 1)[..., None]
            hill = np.array(colour) * (1 - fade) + c.haze * fade
            c.colour[rows] = np.where((y > ridge)[..., None], hill, c.colour[rows])
            c.class_map[rows] = np.where(y > ridge, VEGETATION, c.class_map[rows])

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
            reach = FACADE - 0.85 * height  # the shadow of the roof, in metres from the middle on the sun's side
            slanted = z - 0.25 * (FACADE - side * x)
            shadow = np.clip((side * x - reach) * 4 + 0.5, 0, 1)
            along = np.clip(np.minimum(slanted - start, stop - slanted) * 4 + 0.5 + wobble, 0, 1)
            sunlit = np.minimum(sunlit, 1 - shadow * along)
        light = sunlit[..., None] * SUNLIT + (1 - sunlit[..., None]) * SHADOW
        c.colour[p.window] *= np.where(p.inside[..., None], light, 1)

    def row(self, side: int) -> list[tuple[int, float, float, float, int]]:
        """Houses along one side: (side, start, stop, height, seed of the facade)."""
        houses, z = [], self.rng.uniform(4, 9)
        while z < 120:
            length = self.rng.uniform(9, 19)
            houses.append((side, z, z + length, self.rng.uniform(8, 19), int(self.rng.integers(2**31))))
            z += length + self.rng.choice([0.0, 0.4, 5.0, 9.0])
        return houses

    def house(self, side: int, start: float, stop: float, height: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        walls = np.array(
            [(0.74, 0.56, 0.42), (0.80, 0.72, 0.58), (0.62, 0.36, 0.29), (0.70, 0.70, 0.68), (0.78, 0.64, 0.47)]
        )
        wall = walls[rng.integers(len(walls))] * rng.uniform(0.88, 1.05)
        storey, bay = rng.uniform(2.9, 3.4), rng.uniform(2.2, 3.0)
        lights = rng.random((64, 64))
        front = self.canvas.patch((side * FACADE, 0, start), (0, 0, stop - start), (0, height, 0))
        gable = self.canvas.patch((side * FACADE, 0, start), (side * 14, 0, 0), (0, height, 0))
        for p, light in ((gable, SHADOW * 1.05), (front, SHADOW if side == self.sun else SUNLIT)):
            texture = 0.10 * (self.noise(p.a * 0.7, p.b * 0.7, octaves=5) - 0.5)
            foot = 0.75 + 0.25 * np.clip(p.b / 2.5, 0, 1)
            self.canvas.paint(p, 1, ((1 + texture) * foot)[..., None] * wall * light, BUILDING)
            u, v = np.mod(p.a, bay) / bay - 0.5, np.mod(p.b, storey) / storey - 0.5
            shop = p.b < storey
            frame = (abs(u) < np.where(shop, 0.42, 0.27)) & (abs(v) < np.where(shop, 0.38, 0.33))
            pane = (abs(u) < np.where(shop, 0.38, 0.22)) & (abs(v) < np.where(shop, 0.34, 0.29)) & (abs(u) > 0.015)
            roof = p.b > height - 0.7
            self.canvas.paint(p, frame & ~roof, 0.72 * wall * light + 0.16, None)
            window = lights[np.floor_divide(p.b, storey).astype(int) % 64, np.floor_divide(p.a, bay).astype(int) % 64]
            sky = np.array([0.34, 0.42, 0.52]) * (0.55 + 0.8 * window + 0.5 * v)[..., None]
            glass = np.where((window > 0.86)[..., None], np.array([1.0, 0.80, 0.46]), sky)
            self.canvas.paint(p, pane & ~roof, glass, None)
            ledge = (abs(v + 0.47) < 0.035) & (p.b > 1)
            self.canvas.paint(p, ledge | roof, wall * light * 0.86 + 0.07, None)
            self.canvas.paint(p, abs(p.b - height + 0.75) < 0.10, wall * light * 0.5, None)

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
                things.append((z, lambda x=x, z=z, scale=scale, seed=seed: self.tree(x, z, scale, seed)))
                z += self.rng.uniform(8, 15)
            for z in np.arange(self.rng.uniform(10, 16), 90, 21.0):
                things.append((z, lambda side=side, z=z: self.lamp(side, z)))
            z = self.rng.uniform(11, 26)
            things.append((z, lambda side=side, z=z: self.sign(side * 7.6, z)))
        return things

    def tree(self, x: float, z: float, scale: float, seed: float) -> None:
        c = self.canvas
        self.contact(x, z, 1.6 * scale, 1.2 * scale, 0.7)
        p = c.upright(x, z, 8 * scale, 9 * scale)
        u, v = p.a / scale - 4, p.b / scale
        light = SUNLIT if np.sign(x) != self.sun else SHADOW * 1.25
        bark = (0.5 - 0.9 * self.sun * -u)[..., None] * np.array([0.30, 0.22, 0.15]) + 0.08
        c.paint(p, (abs(u) < 0.17 + 0.05 * np.exp(-v * 3)) & (v < 4), bark * light, VEGETATION)
        leaves = self.noise(u * 0.9 + seed, v * 0.9, octaves=6)
        crown = np.hypot(u / 2.5, (v - 5.3) / 2.9) + 1.7 * (leaves - 0.5)
        tufts = self.noise(u * 2.2 + seed, v * 2.2 + 70, octaves=4) - 0.5
        bright = np.clip(0.42 + 0.16 * self.sun * u + 0.09 * (v - 5.3) + 1.5 * tufts, 0.05, 1)
        green = np.array([0.10, 0.17, 0.07]) + bright[..., None] * np.array([0.36, 0.38, 0.08])
        c.paint(p, crown < 0.92, green * light, VEGETATION)

    def lamp(self, side: int, z: float) -> None:
        c, x = self.canvas, side * 7.55
        self.contact(x, z, 0.3, 0.3, 0.6)
        p = c.upright(x - side * 0.7, z, 2.0, 7.2)
        u, v = side * (p.a - 1.0) - 0.7, p.b  # 0 at the pole, negative over the road
        steel = 0.20 + 0.5 * np.clip(0.5 + 3 * self.sun * side * u, 0, 1)
        pole = (abs(u) < np.where(v < 1.1, 0.11, 0.07)) & (v < 7)
        arm = (u < 0) & (u > -1.5) & (abs(v - 6.95 - 0.1 * u) < 0.05)
        head = (u < -0.9) & (u > -1.6) & (abs(v - 6.80) < 0.10)
        c.paint(p, pole | arm | head, np.where(pole, steel, 0.26)[..., None] * np.array([0.86, 0.92, 0.95]), POLE)

    def sign(self, x: float, z: float) -> None:
        c = self.canvas
        p = c.upright(x, z, 1.0, 3.0)
        u, v = p.a - 0.5, p.b
        c.paint(p, (abs(u) < 0.045) & (v < 2.9), (0.55, 0.56, 0.58), POLE)
        radius = np.hypot(u, v - 2.5)
        c.paint(p, radius < 0.42, (0.78, 0.10, 0.10), TRAFFIC_SIGN)
        c.paint(p, radius < 0.30, (0.95, 0.94, 0.90), TRAFFIC_SIGN)
        c.paint(p, (abs(u) < 0.20) & (abs(v - 2.5) < 0.06), (0.12, 0.12, 0.14), TRAFFIC_SIGN)

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
        colours = paints[self.rng.integers(len(paints), size=len(places))]
        return [
            (z, lambda x=x, z=z, towards=towards, colour=colour: self.car(x, z, towards, colour))
            for (x, z, towards), colour in zip(places, colours, strict=True)
        ]

    def car(self, x: float, z: float, towards: bool, colour: NDArray) -> None:
        """A car as a stack of cross-sections, the farthest first; ``along`` runs from its tail to its nose."""
        c, length = self.canvas, 4.3
        self.contact(x, z + length / 2, 1.35, 2.5, 1.0)
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
            c.paint(p, body, colour * sheen, CAR)
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
        c.paint(p, body & (v < 0.42), colour * 0.3 + 0.05, CAR)
        c.paint(p, lamps, (0.96, 0.95, 0.86) if towards else (0.72, 0.05, 0.04), CAR)
        c.paint(p, (abs(u) < 0.26) & (abs(v - 0.52) < 0.06), (0.85, 0.85, 0.80), CAR)

    def crate(self, x: float, z: float) -> None:
        """A striped crate that fell off a lorry, askew on the road."""
        c = self.canvas
        self.contact(x + 0.1, z + 0.55, 1.25, 0.95, 1.0)
        yaw, tilt = self.rng.uniform(0.35, 0.75), self.rng.uniform(0.03, 0.08)
        width, height, depth = (
            1.35 * np.array([np.cos(yaw) * np.cos(tilt), np.sin(tilt), np.sin(yaw) * np.cos(tilt)]),
            1.10 * np.array([-np.sin(tilt), np.cos(tilt), 0.0]),
            1.05 * np.array([-np.sin(yaw), 0.0, np.cos(yaw)]),
        )
        corner = np.array([x - 0.4, 0.0, z])
        faces = [(corner, width, height, 0.9), (corner, depth, height, 0.7), (corner + height, width, depth, 1.15)]
        for origin, first, second, light in faces:
            p = c.patch(origin, first, second)
            stripe = (np.mod(p.a + p.b, 0.44) < 0.22)[..., None]
            grime = 0.75 + 0.4 * self.noise(p.a * 4, p.b * 4)[..., None]
            colour = np.where(stripe, np.array([0.95, 0.52, 0.06]), np.array([0.92, 0.90, 0.86]))
            limits = np.linalg.norm(first), np.linalg.norm(second)
            border = np.minimum.reduce([p.a, limits[0] - p.a, p.b, limits[1] - p.b]) < 0.07
            colour = np.where(border[..., None], np.array([0.36, 0.24, 0.14]), colour)
            c.paint(p, 1, colour * grime * light, UNKNOWN)

    def animal(self, x: float, z: float) -> None:
        """A spotted creature, half cow and half boar."""
        c = self.canvas
        self.contact(x, z, 1.15, 0.5, 1.0)
        p = c.upright(x, z, 3.2, 2.0)
        u, v = (p.a - 1.6) * int(self.rng.choice([-1, 1])), p.b
        fur = self.noise(u * 9, v * 9, octaves=3) - 0.5
        trunk = np.hypot(u / 0.82, (v - 0.92) / 0.42)
        head = np.hypot((u - 0.98) / 0.32, (v - 1.18) / 0.24)
        snout = np.hypot((u - 1.26) / 0.16, (v - 1.08) / 0.13)
        ears = np.hypot((u - 0.80) / 0.08, (v - 1.45) / 0.16)
        legs = (v < 0.8) & (np.min([abs(u - foot) for foot in (-0.62, -0.38, 0.36, 0.60)], axis=0) < 0.085)
        tail = np.hypot((u + 0.86 + 0.1 * v) / 0.05, (v - 0.95) / 0.34)
        shape = np.minimum.reduce([trunk, head, snout, ears, tail]) + 0.12 * fur < 1
        spots = self.noise(u * 2.0 + 11, v * 2.0 + 5, octaves=2) > 0.53
        coat = np.where(spots[..., None], np.array([0.20, 0.13, 0.10]), np.array([0.90, 0.80, 0.72]))
        light = np.clip(0.66 + 0.5 * (v - 0.8) + 0.22 * self.sun * (p.a - 1.6), 0.35, 1.15) + 0.35 * fur
        c.paint(p, legs, coat * (0.7 * light)[..., None], UNKNOWN)
        c.paint(p, shape, coat * light[..., None], UNKNOWN)
        c.paint(p, snout < 0.9, np.array([0.85, 0.52, 0.50]) * light[..., None], UNKNOWN)
        c.paint(p, np.hypot(u - 1.04, v - 1.24) < 0.035, (0.03, 0.03, 0.03), UNKNOWN)

    def contact(self, x: float, z: float, width: float, depth: float, strength: float) -> None:
        """Soft shadow on the ground around (x, z), drawn out away from the sun."""
        p: Patch = self.canvas.patch((x - 4, 0, z - 4), (8, 0, 0), (0, 0, 8))
        u, w = p.a - 4, p.b - 4
        drawn = np.where(u * self.sun < 0, 1.7, 1.0)
        radius = np.hypot(u / (width * drawn), w / depth)
        self.canvas.shade(p, strength * np.clip(1.5 - 1.35 * radius, 0, 1), SHADOW * 0.75)

    def bonnet(self) -> None:
        """The edge of our own car."""
        c = self.canvas
        rows = c.y[:, 0] > 0.95
        y, offset = c.y[rows], c.x - c.centre
        edge = 0.955 + 0.035 * (offset / 0.8) ** 2 + 0.4 * np.clip(abs(offset) - 0.72, 0, 1) ** 2
        glint = 0.20 * (1 - np.clip((y - edge) / 0.05, 0, 1)) + 0.15 * np.exp(
            -(((offset - 0.3 * self.sun) / 0.25) ** 2)
        )
        colour = np.array([0.10, 0.11, 0.13]) + glint[..., None] * np.array([1.0, 0.95, 0.9])
        c.colour[rows] = np.where((y > edge)[..., None], colour, c.colour[rows])
        c.class_map[rows] = np.where(y > edge, EGO, c.class_map[rows])
