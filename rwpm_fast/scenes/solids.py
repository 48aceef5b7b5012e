"""Solid things, each a union of shapes given by their distance, found along the camera's rays by sphere tracing.

J. C. Hart, "Sphere tracing: a geometric method for the antialiased ray tracing of implicit surfaces", The Visual
Computer 12 (1996). A thing's own coordinates are meters: x to its right, y up from the ground, z ahead of its middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Canvas, Patch
from .props import Light

Distance = Callable[[NDArray], NDArray]  # points [3, n] to meters [n], negative inside, never more than the true one
STEPS = 28


@dataclass(frozen=True)
class Part:
    """A shape with what it is made of.

    Attributes:
        distance: its shape.
        color: [3], or a function of points [3, n] to colors [n, 3]; above 1 it shines of its own.
        train_id: its class.
        gloss: share of the sky it mirrors, in [0, 1].
    """

    distance: Distance
    color: ArrayLike | Callable[[NDArray], NDArray]
    train_id: int
    gloss: float = 0.0


@dataclass(frozen=True)
class Solid:
    """Parts within the box |x| <= size[0] / 2, 0 <= y <= size[1], |z| <= size[2] / 2."""

    parts: tuple[Part, ...]
    size: tuple[float, float, float]

    def paint(
        self, canvas: Canvas, place: tuple[float, float, float], yaw: float, light: Light, towards: NDArray
    ) -> None:
        """Paint the solid onto a canvas.

        Args:
            place: where its middle stands, in meters of the world.
            yaw: radians by which it is turned to the right; 0 looks away from the camera.
            light: around it.
            towards: unit vector [3] towards the sun.
        """
        turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])  # world to own
        half = np.array([self.size[0] / 2, self.size[1], self.size[2] / 2])
        low, high = half * (-1, 0, -1), half
        corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, 8)
        rows, columns = window = canvas.window((turn.T @ corners).T + place)
        height, width = canvas.y[rows].shape[0], canvas.x[:, columns].shape[1]
        if not height * width:
            return
        across = np.broadcast_to((canvas.x[:, columns] - canvas.center) / canvas.camera.focal, (height, width))
        up = np.broadcast_to((canvas.camera.horizon - canvas.y[rows]) / canvas.camera.focal, (height, width))
        rays = (turn @ np.stack([across.ravel(), up.ravel(), np.ones(height * width)])).astype(np.float32)  # [3, n]
        origin = (turn @ (np.array(canvas.camera.place) - place)).astype(np.float32)[:, None]

        hit, depth = self._trace(origin, rays, low, high, 0.4 / canvas.size[0] / canvas.camera.focal)
        points = origin + depth[hit] * rays[:, hit]
        color, train_id = self._shade(points, turn @ towards, light)
        inside, colors = np.zeros((height, width), bool), np.zeros((height, width, 3), np.float32)
        ids, depths = np.zeros((height, width), np.uint8), np.ones((height, width), np.float32)
        inside.ravel()[hit], colors.reshape(-1, 3)[hit] = True, color
        ids.ravel()[hit], depths.ravel()[hit] = train_id, depth[hit]
        canvas.paint(Patch(window, depths, depths, inside, depths), 1, colors, ids)

    def distances(self, points: NDArray) -> NDArray:
        """Distances [parts, n] of points [3, n]."""
        return np.stack([part.distance(points) for part in self.parts])

    def _trace(
        self, origin: NDArray, rays: NDArray, low: NDArray, high: NDArray, pixel: float
    ) -> tuple[NDArray, NDArray]:
        """Rays that meet the solid, as indices, and depths [n] of all; ``pixel`` is what counts as met at depth 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = np.stack([(low[:, None] - origin) / rays, (high[:, None] - origin) / rays])  # [2, 3, n]
        start = np.maximum(np.nanmax(walls.min(0), 0), 0.05).astype(np.float32)
        stop = np.nanmin(walls.max(0), 0).astype(np.float32)
        length = np.linalg.norm(rays, axis=0)
        depth = start.copy()
        active = np.flatnonzero(start < stop)
        met = []
        for _ in range(STEPS):
            if not len(active):
                break
            far = depth[active]
            step = self.distances(origin + far * rays[:, active]).min(0)
            close = step < pixel * far
            met.append(active[close])
            depth[active] = np.where(close, far, far + step / length[active])
            active = active[~close & (depth[active] < stop[active])]
        return np.concatenate(met) if met else active, depth

    def _shade(self, points: NDArray, towards: NDArray, light: Light) -> tuple[NDArray, NDArray]:
        """Colors [n, 3] and classes [n] of points [3, n] on the surface; ``towards`` the sun in own coordinates."""
        parts = self.distances(points).argmin(0)
        normal = np.zeros_like(points)
        color = np.zeros((points.shape[1], 3), np.float32)
        gloss = np.zeros(points.shape[1], np.float32)
        ids = np.zeros(points.shape[1], np.uint8)
        for index, part in enumerate(self.parts):
            own = np.flatnonzero(parts == index)
            if not len(own):
                continue
            p = points[:, own]
            base = part.distance(p)
            nudges = np.eye(3, dtype=np.float32) * np.float32(4e-3)
            normal[:, own] = np.stack([part.distance(p + nudge[:, None]) - base for nudge in nudges])
            color[own] = part.color(p) if callable(part.color) else np.asarray(part.color, np.float32)
            gloss[own], ids[own] = part.gloss, part.train_id
        normal /= np.linalg.norm(normal, axis=0) + 1e-9
        sky = 0.72 + 0.28 * normal[1] - 0.25 * np.clip(0.5 - points[1], 0, 1)  # little sky is seen near the ground
        sun = 1.15 * np.clip(np.asarray(towards, np.float32) @ normal, 0, 1)
        lit = sky[:, None] * light.shadow + sun[:, None] * (light.sunlit - light.shadow)
        mirrored = (gloss * np.clip(normal[1] + 0.15, 0, 1))[:, None] * light.shadow
        shining = color > 1
        return np.where(shining, color, color * lit * (1 - mirrored) + mirrored).astype(np.float32), ids


def ball(middle: ArrayLike, radii: ArrayLike) -> Distance:
    """An ellipsoid; one radius makes a ball."""
    middle = np.asarray(middle, np.float32)[:, None]
    radii = np.broadcast_to(np.asarray(radii, np.float32), (3,))[:, None]
    return lambda p: (np.sqrt((((p - middle) / radii) ** 2).sum(0)) - 1) * radii.min()


def box(middle: ArrayLike, size: ArrayLike, rounded: float = 0.0) -> Distance:
    middle, half = np.asarray(middle, np.float32)[:, None], np.asarray(size, np.float32)[:, None] / 2 - rounded

    def distance(p: NDArray) -> NDArray:
        q = abs(p - middle) - half
        outside = np.maximum(q, 0)
        return np.sqrt((outside * outside).sum(0)) + np.minimum(q.max(0), 0) - np.float32(rounded)

    return distance


def rod(start: ArrayLike, stop: ArrayLike, radius: float) -> Distance:
    """A capsule."""
    start, stop = np.asarray(start, np.float32)[:, None], np.asarray(stop, np.float32)[:, None]
    along = stop - start
    square = float((along**2).sum())

    def distance(p: NDArray) -> NDArray:
        q = p - start
        share = np.clip((q * along).sum(0) / np.float32(square), 0, 1)
        q = q - share * along
        return np.sqrt((q * q).sum(0)) - np.float32(radius)

    return distance


def disc(middle: ArrayLike, radius: float, width: float, axis: int = 0, rounded: float = 0.0) -> Distance:
    """A cylinder of ``width`` along ``axis``."""
    middle = np.asarray(middle, np.float32)[:, None]
    others = [i for i in range(3) if i != axis]

    def distance(p: NDArray) -> NDArray:
        q = p - middle
        out = np.hypot(q[others[0]], q[others[1]]) - np.float32(radius - rounded)
        side = abs(q[axis]) - np.float32(width / 2 - rounded)
        return np.hypot(np.maximum(out, 0), np.maximum(side, 0)) + np.minimum(np.maximum(out, side), 0) - rounded

    return distance


def ring(middle: ArrayLike, radius: float, thickness: float, axis: int = 0) -> Distance:
    """A torus around ``axis``."""
    middle = np.asarray(middle, np.float32)[:, None]
    others = [i for i in range(3) if i != axis]

    def distance(p: NDArray) -> NDArray:
        q = p - middle
        out = np.hypot(q[others[0]], q[others[1]]) - np.float32(radius)
        return np.hypot(out, q[axis]) - np.float32(thickness)

    return distance


def cone(radius: float, height: float) -> Distance:
    """A cone that stands on the ground."""
    slope = np.float32(height / np.hypot(radius, height))

    def distance(p: NDArray) -> NDArray:
        return np.maximum((np.hypot(p[0], p[2]) - radius * (1 - p[1] / height)) * slope, p[1] - np.float32(height))

    return distance


def both_sides(shape: Distance) -> Distance:
    """``shape`` on the right, and its mirror image on the left."""
    return lambda p: shape(np.stack([abs(p[0]), p[1], p[2]]))
