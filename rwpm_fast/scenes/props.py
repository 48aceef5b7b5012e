"""Flat objects of a street: trees, street lamps, unknown objects, and the hood of the ego vehicle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .canvas import Canvas
from .labels import EGO, POLE, UNKNOWN, VEGETATION
from .lighting import Light
from .noise import Noise

Color = tuple[float, float, float]


@dataclass(frozen=True)
class TreeStyle:
    """A kind of tree; lengths in meters at scale 1.

    Attributes:
        crown_half_size: half width and half height of the crown.
        crown_center: height of the crown's center.
        trunk_half_width: half width of the trunk.
        conical: whether the crown narrows to a tip.
        density: 1 for a full crown, less for a thin one.
        dark_color: color of leaves in their own shadow.
        lit_color: color that light adds to it.
    """

    crown_half_size: tuple[float, float] = (2.5, 2.9)
    crown_center: float = 5.3
    trunk_half_width: float = 0.17
    conical: bool = False
    density: float = 0.92
    dark_color: Color = (0.10, 0.17, 0.07)
    lit_color: Color = (0.36, 0.38, 0.08)


@dataclass(frozen=True)
class PropPainter:
    """Paints flat objects onto a canvas in one light; their positions x and z are meters in the world.

    Attributes:
        canvas: to paint on.
        noise: texture of the objects.
        light: on the objects.
    """

    canvas: Canvas
    noise: Noise
    light: Light

    def tree(self, x: float, z: float, scale: float, seed: float, light: ArrayLike, style: TreeStyle) -> None:
        """Paint a tree.

        Args:
            x: of its trunk in the world, meters.
            z: of its trunk, meters.
            scale: factor on the lengths of its style.
            seed: any number; another one gives another shape.
            light: [3], on trunk and leaves.
            style: kind of tree.
        """
        c, sun_side = self.canvas, self.light.sun_side
        self.contact_shadow(x, z, 1.6 * scale, 1.2 * scale, 0.7)
        p = c.upright(x, z, 8 * scale, 9 * scale)
        u, v = p.u / scale - 4, p.v / scale
        bark = (0.5 - 0.9 * sun_side * -u)[..., None] * np.array([0.30, 0.22, 0.15]) + 0.08
        trunk = (abs(u) < style.trunk_half_width + 0.05 * np.exp(-v * 3)) & (v < style.crown_center - 1.3)
        c.paint(p, trunk, bark * light, VEGETATION)
        leaves = self.noise(u * 0.9 + seed, v * 0.9, octaves=6)
        width, height = style.crown_half_size
        up = (v - style.crown_center) / height
        shape = abs(u) / width + (up + 1) / 2 if style.conical else np.hypot(u / width, up)
        crown = shape + 1.7 * (leaves - 0.5)
        tufts = self.noise(u * 2.2 + seed, v * 2.2 + 70, octaves=4) - 0.5
        bright = np.clip(0.42 + 0.16 * sun_side * u + 0.09 * (v - style.crown_center) + 1.5 * tufts, 0.05, 1)
        green = np.array(style.dark_color) + bright[..., None] * np.array(style.lit_color)
        c.paint(p, (crown < style.density) & (up > -1.5), green * light, VEGETATION)

    def street_lamp(self, x: float, z: float, side: int, light: ArrayLike) -> None:
        """Paint a street lamp on a side of the road, -1 left and 1 right; its arm points over the road."""
        c = self.canvas
        self.contact_shadow(x, z, 0.3, 0.3, 0.6)
        p = c.upright(x - side * 0.7, z, 2.0, 7.2)
        u, v = side * (p.u - 1.0) - 0.7, p.v  # 0 at the pole, negative over the road
        steel = 0.20 + 0.5 * np.clip(0.5 + 3 * self.light.sun_side * side * u, 0, 1)
        pole = (abs(u) < np.where(v < 1.1, 0.11, 0.07)) & (v < 7)
        arm = (u < 0) & (u > -1.5) & (abs(v - 6.95 - 0.1 * u) < 0.05)
        head = (u < -0.9) & (u > -1.6) & (abs(v - 6.80) < 0.10)
        color = np.where(pole, steel, 0.26)[..., None] * np.array([0.86, 0.92, 0.95])
        c.paint(p, pole | arm | head, color * light, POLE)

    def crate(self, rng: np.random.Generator, x: float, z: float, light: ArrayLike) -> None:
        """Paint a striped crate that fell off a truck and lies askew."""
        c, light = self.canvas, np.asarray(light)
        self.contact_shadow(x + 0.1, z + 0.55, 1.25, 0.95, 1.0)
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
            stripe = (np.mod(p.u + p.v, 0.44) < 0.22)[..., None]
            grime = 0.75 + 0.4 * self.noise(p.u * 4, p.v * 4)[..., None]
            color = np.where(stripe, np.array([0.95, 0.52, 0.06]), np.array([0.92, 0.90, 0.86]))
            limits = np.linalg.norm(first), np.linalg.norm(second)
            border = np.minimum.reduce([p.u, limits[0] - p.u, p.v, limits[1] - p.v]) < 0.07
            color = np.where(border[..., None], np.array([0.36, 0.24, 0.14]), color)
            c.paint(p, 1, color * grime * bright * light, UNKNOWN)

    def animal(self, rng: np.random.Generator, x: float, z: float, light: ArrayLike) -> None:
        """Paint a spotted animal between cow and boar, which faces left or right."""
        c, ambient = self.canvas, np.asarray(light)
        self.contact_shadow(x, z, 1.15, 0.5, 1.0)
        p = c.upright(x, z, 3.2, 2.0)
        u, v = (p.u - 1.6) * int(rng.choice([-1, 1])), p.v
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
        bright = np.clip(0.66 + 0.5 * (v - 0.8) + 0.22 * self.light.sun_side * (p.u - 1.6), 0.35, 1.15) + 0.35 * fur
        c.paint(p, legs, coat * (0.7 * bright)[..., None] * ambient, UNKNOWN)
        c.paint(p, shape, coat * bright[..., None] * ambient, UNKNOWN)
        c.paint(p, snout < 0.9, np.array([0.85, 0.52, 0.50]) * bright[..., None] * ambient, UNKNOWN)
        c.paint(p, np.hypot(u - 1.04, v - 1.24) < 0.035, (0.03, 0.03, 0.03), UNKNOWN)

    def contact_shadow(self, x: float, z: float, width: float, depth: float, strength: float) -> None:
        """Darken the ground around the foot of an object, farther on the side away from the sun.

        Args:
            x: center in the world, meters.
            z: center, meters.
            width: half width of the shadow, meters.
            depth: half depth of the shadow, meters.
            strength: in [0, 1]; 1 is the darkest.
        """
        reach = max(4.0, 1.2 * depth)
        p = self.canvas.patch((x - 4, 0, z - reach), (8, 0, 0), (0, 0, 2 * reach))
        u, w = p.u - 4, p.v - reach
        stretch = np.where(u * self.light.sun_side < 0, 1.7, 1.0)
        radius = np.hypot(u / (width * stretch), w / depth)
        self.canvas.shade(p, strength * np.clip(1.5 - 1.35 * radius, 0, 1), self.light.shadow * 0.75)

    def ego_hood(self, top: float, color: ArrayLike) -> None:
        """Paint the hood of the ego vehicle below the row ``top``, in image heights from the top, in a color [3]."""
        c = self.canvas
        rows = c.y[:, 0] > top - 0.005
        y, offset = c.y[rows], c.x - c.center
        edge = top + 0.035 * (offset / 0.8) ** 2 + 0.4 * np.clip(abs(offset) - 0.72, 0, 1) ** 2
        glint = 0.20 * (1 - np.clip((y - edge) / 0.05, 0, 1)) + 0.15 * np.exp(
            -(((offset - 0.3 * self.light.sun_side) / 0.25) ** 2)
        )
        paint = np.array(color) + glint[..., None] * np.array([1.0, 0.95, 0.9])
        c.color[rows] = np.where((y > edge)[..., None], paint, c.color[rows])
        c.class_map[rows] = np.where(y > edge, EGO, c.class_map[rows])
        c.depth[rows] = np.where(y > edge, np.inf, c.depth[rows])
