"""Things of a street, painted flat: houses, trees, lamps, signs, what no class is for, and our own bonnet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Canvas, Noise, Patch
from .labels import BUILDING, EGO, POLE, TRAFFIC_SIGN, UNKNOWN, VEGETATION

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """Light around a thing: colors [3] that a thing's own color is multiplied by.

    Attributes:
        side: where the sun stands: -1 left, 1 right, 0 for no sun.
        sunlit: in the sun.
        shadow: out of it.
    """

    side: float
    sunlit: NDArray
    shadow: NDArray


@dataclass(frozen=True)
class Facade:
    """Style of a house; pairs are the range of a number, or the half width and half height of a window's part.

    Attributes:
        walls: colors to choose from.
        storey: meters.
        bay: meters from window to window.
        pane: share of bay and storey.
        frame: share of bay and storey.
        shop: whether the ground floor has large windows.
        glass: what the windows reflect.
        lamp: color of a lit window.
        lit: share of windows that are lit.
        gloss: light that frames and ledges add to the wall's, in [0, 1].
    """

    walls: tuple[Color, ...] = (
        (0.74, 0.56, 0.42),
        (0.80, 0.72, 0.58),
        (0.62, 0.36, 0.29),
        (0.70, 0.70, 0.68),
        (0.78, 0.64, 0.47),
    )
    storey: tuple[float, float] = (2.9, 3.4)
    bay: tuple[float, float] = (2.2, 3.0)
    pane: tuple[float, float] = (0.22, 0.29)
    frame: tuple[float, float] = (0.27, 0.33)
    shop: bool = True
    glass: Color = (0.34, 0.42, 0.52)
    lamp: Color = (1.0, 0.80, 0.46)
    lit: float = 0.14
    gloss: float = 1.0


@dataclass(frozen=True)
class Tree:
    """A kind of tree; lengths in meters at scale 1.

    Attributes:
        crown: half width and half height of the crown.
        middle: height of the crown's middle.
        trunk: half width of the trunk.
        cone: whether the crown narrows to a tip.
        dense: 1 for a full crown, less for a thin one.
        dark: color of leaves in their own shadow.
        bright: what light adds to it.
    """

    crown: tuple[float, float] = (2.5, 2.9)
    middle: float = 5.3
    trunk: float = 0.17
    cone: bool = False
    dense: float = 0.92
    dark: Color = (0.10, 0.17, 0.07)
    bright: Color = (0.36, 0.38, 0.08)


@dataclass(frozen=True)
class Things:
    """Paints things onto a canvas in one light."""

    canvas: Canvas
    noise: Noise
    light: Light

    def house(self, walls: list[tuple[Patch, ArrayLike]], height: float, seed: int, style: Facade) -> None:
        """Paint the walls of a house, each a patch whose second edge points up, with the light on it."""
        rng = np.random.default_rng(seed)
        colors = np.array(style.walls)
        wall = colors[rng.integers(len(colors))] * rng.uniform(0.88, 1.05)
        storey, bay = rng.uniform(*style.storey), rng.uniform(*style.bay)
        lights = rng.random((64, 64))
        (pane_u, pane_v), (frame_u, frame_v) = style.pane, style.frame
        for p, light in walls:
            texture = 0.10 * (self.noise(p.a * 0.7, p.b * 0.7, octaves=5) - 0.5)
            foot = 0.75 + 0.25 * np.clip(p.b / 2.5, 0, 1)
            self.canvas.paint(p, 1, ((1 + texture) * foot)[..., None] * wall * light, BUILDING)
            u, v = np.mod(p.a, bay) / bay - 0.5, np.mod(p.b, storey) / storey - 0.5
            shop = (p.b < storey) & style.shop
            frame = (abs(u) < np.where(shop, 0.42, frame_u)) & (abs(v) < np.where(shop, 0.38, frame_v))
            pane = (abs(u) < np.where(shop, 0.38, pane_u)) & (abs(v) < np.where(shop, 0.34, pane_v)) & (abs(u) > 0.015)
            roof = p.b > height - 0.7
            self.canvas.paint(p, frame & ~roof, 0.72 * wall * light + 0.16 * style.gloss, None)
            window = lights[np.floor_divide(p.b, storey).astype(int) % 64, np.floor_divide(p.a, bay).astype(int) % 64]
            sky = np.array(style.glass) * (0.55 + 0.8 * window + 0.5 * v)[..., None]
            glass = np.where((window > 1 - style.lit)[..., None], np.array(style.lamp), sky)
            self.canvas.paint(p, pane & ~roof, glass, None)
            ledge = (abs(v + 0.47) < 0.035) & (p.b > 1)
            self.canvas.paint(p, ledge | roof, wall * light * 0.86 + 0.07 * style.gloss, None)
            self.canvas.paint(p, abs(p.b - height + 0.75) < 0.10, wall * light * 0.5, None)

    def tree(self, x: float, z: float, scale: float, seed: float, light: ArrayLike, kind: Tree) -> None:
        c, side = self.canvas, self.light.side
        self.contact(x, z, 1.6 * scale, 1.2 * scale, 0.7)
        p = c.upright(x, z, 8 * scale, 9 * scale)
        u, v = p.a / scale - 4, p.b / scale
        bark = (0.5 - 0.9 * side * -u)[..., None] * np.array([0.30, 0.22, 0.15]) + 0.08
        c.paint(p, (abs(u) < kind.trunk + 0.05 * np.exp(-v * 3)) & (v < kind.middle - 1.3), bark * light, VEGETATION)
        leaves = self.noise(u * 0.9 + seed, v * 0.9, octaves=6)
        width, height = kind.crown
        up = (v - kind.middle) / height
        shape = abs(u) / width + (up + 1) / 2 if kind.cone else np.hypot(u / width, up)
        crown = shape + 1.7 * (leaves - 0.5)
        tufts = self.noise(u * 2.2 + seed, v * 2.2 + 70, octaves=4) - 0.5
        bright = np.clip(0.42 + 0.16 * side * u + 0.09 * (v - kind.middle) + 1.5 * tufts, 0.05, 1)
        green = np.array(kind.dark) + bright[..., None] * np.array(kind.bright)
        c.paint(p, (crown < kind.dense) & (up > -1.5), green * light, VEGETATION)

    def lamp(self, x: float, z: float, side: int, light: ArrayLike) -> None:
        """A street lamp whose arm points away from ``side``."""
        c = self.canvas
        self.contact(x, z, 0.3, 0.3, 0.6)
        p = c.upright(x - side * 0.7, z, 2.0, 7.2)
        u, v = side * (p.a - 1.0) - 0.7, p.b  # 0 at the pole, negative over the road
        steel = 0.20 + 0.5 * np.clip(0.5 + 3 * self.light.side * side * u, 0, 1)
        pole = (abs(u) < np.where(v < 1.1, 0.11, 0.07)) & (v < 7)
        arm = (u < 0) & (u > -1.5) & (abs(v - 6.95 - 0.1 * u) < 0.05)
        head = (u < -0.9) & (u > -1.6) & (abs(v - 6.80) < 0.10)
        color = np.where(pole, steel, 0.26)[..., None] * np.array([0.86, 0.92, 0.95])
        c.paint(p, pole | arm | head, color * light, POLE)

    def sign(self, x: float, z: float, light: ArrayLike) -> None:
        """No entry."""
        c, light = self.canvas, np.asarray(light)
        p = c.upright(x, z, 1.0, 3.0)
        u, v = p.a - 0.5, p.b
        c.paint(p, (abs(u) < 0.045) & (v < 2.9), (0.55, 0.56, 0.58) * light, POLE)
        radius = np.hypot(u, v - 2.5)
        c.paint(p, radius < 0.42, (0.78, 0.10, 0.10) * light, TRAFFIC_SIGN)
        c.paint(p, radius < 0.30, (0.95, 0.94, 0.90) * light, TRAFFIC_SIGN)
        c.paint(p, (abs(u) < 0.20) & (abs(v - 2.5) < 0.06), (0.12, 0.12, 0.14) * light, TRAFFIC_SIGN)

    def crate(self, rng: np.random.Generator, x: float, z: float, light: ArrayLike) -> None:
        """A striped crate that fell off a lorry, askew on the road."""
        c, light = self.canvas, np.asarray(light)
        self.contact(x + 0.1, z + 0.55, 1.25, 0.95, 1.0)
        yaw, tilt = rng.uniform(0.35, 0.75), rng.uniform(0.03, 0.08)
        width, height, depth = (
            1.35 * np.array([np.cos(yaw) * np.cos(tilt), np.sin(tilt), np.sin(yaw) * np.cos(tilt)]),
            1.10 * np.array([-np.sin(tilt), np.cos(tilt), 0.0]),
            1.05 * np.array([-np.sin(yaw), 0.0, np.cos(yaw)]),
        )
        corner = np.array([x - 0.4, 0.0, z])
        faces = [(corner, width, height, 0.9), (corner, depth, height, 0.7), (corner + height, width, depth, 1.15)]
        for origin, first, second, bright in faces:
            p = c.patch(origin, first, second)
            stripe = (np.mod(p.a + p.b, 0.44) < 0.22)[..., None]
            grime = 0.75 + 0.4 * self.noise(p.a * 4, p.b * 4)[..., None]
            color = np.where(stripe, np.array([0.95, 0.52, 0.06]), np.array([0.92, 0.90, 0.86]))
            limits = np.linalg.norm(first), np.linalg.norm(second)
            border = np.minimum.reduce([p.a, limits[0] - p.a, p.b, limits[1] - p.b]) < 0.07
            color = np.where(border[..., None], np.array([0.36, 0.24, 0.14]), color)
            c.paint(p, 1, color * grime * bright * light, UNKNOWN)

    def animal(self, rng: np.random.Generator, x: float, z: float, light: ArrayLike) -> None:
        """A spotted creature, half cow and half boar."""
        c, ambient = self.canvas, np.asarray(light)
        self.contact(x, z, 1.15, 0.5, 1.0)
        p = c.upright(x, z, 3.2, 2.0)
        u, v = (p.a - 1.6) * int(rng.choice([-1, 1])), p.b
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
        bright = np.clip(0.66 + 0.5 * (v - 0.8) + 0.22 * self.light.side * (p.a - 1.6), 0.35, 1.15) + 0.35 * fur
        c.paint(p, legs, coat * (0.7 * bright)[..., None] * ambient, UNKNOWN)
        c.paint(p, shape, coat * bright[..., None] * ambient, UNKNOWN)
        c.paint(p, snout < 0.9, np.array([0.85, 0.52, 0.50]) * bright[..., None] * ambient, UNKNOWN)
        c.paint(p, np.hypot(u - 1.04, v - 1.24) < 0.035, (0.03, 0.03, 0.03), UNKNOWN)

    def contact(self, x: float, z: float, width: float, depth: float, strength: float) -> None:
        """Soft shadow on the ground around (x, z), drawn out away from the sun."""
        reach = max(4.0, 1.2 * depth)
        p = self.canvas.patch((x - 4, 0, z - reach), (8, 0, 0), (0, 0, 2 * reach))
        u, w = p.a - 4, p.b - reach
        drawn = np.where(u * self.light.side < 0, 1.7, 1.0)
        radius = np.hypot(u / (width * drawn), w / depth)
        self.canvas.shade(p, strength * np.clip(1.5 - 1.35 * radius, 0, 1), self.light.shadow * 0.75)

    def bonnet(self, top: float, color: ArrayLike) -> None:
        """The edge of our own car, from the row ``top`` in image heights down."""
        c = self.canvas
        rows = c.y[:, 0] > top - 0.005
        y, offset = c.y[rows], c.x - c.center
        edge = top + 0.035 * (offset / 0.8) ** 2 + 0.4 * np.clip(abs(offset) - 0.72, 0, 1) ** 2
        glint = 0.20 * (1 - np.clip((y - edge) / 0.05, 0, 1)) + 0.15 * np.exp(
            -(((offset - 0.3 * self.light.side) / 0.25) ** 2)
        )
        paint = np.array(color) + glint[..., None] * np.array([1.0, 0.95, 0.9])
        c.color[rows] = np.where((y > edge)[..., None], paint, c.color[rows])
        c.class_map[rows] = np.where(y > edge, EGO, c.class_map[rows])
