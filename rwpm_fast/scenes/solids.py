"""Solids: unions of shapes given by signed distances, intersected with the camera's rays by sphere tracing.

J. C. Hart, "Sphere tracing: a geometric method for the antialiased ray tracing of implicit surfaces", The Visual
Computer 12 (1996). A solid's own coordinates are meters: x to its right, y up from the ground, z ahead of its center.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Canvas, Patch
from .lighting import Light

# Points [3, n] to meters [n], negative inside; never more than the true distance, so that no ray steps through a shape.
SignedDistance = Callable[[NDArray], NDArray]
MAX_TRACE_STEPS = 28


@dataclass(frozen=True)
class Part:
    """A shape and its material.

    Attributes:
        distance: signed distance to its surface.
        color: [3], or a function of points [3, n] to colors [n, 3]; above 1 it emits light.
        train_id: its class.
        gloss: share of the sky that it reflects, in [0, 1].
    """

    distance: SignedDistance
    color: ArrayLike | Callable[[NDArray], NDArray]
    train_id: int
    gloss: float = 0.0


@dataclass(frozen=True)
class Solid:
    """A union of parts within the box |x| <= size[0] / 2, 0 <= y <= size[1], |z| <= size[2] / 2.

    Attributes:
        parts: shapes; where they overlap, the nearest surface is seen.
        size: width, height and length of the box in meters.
    """

    parts: tuple[Part, ...]
    size: tuple[float, float, float]

    def paint(
        self,
        canvas: Canvas,
        position: tuple[float, float, float],
        yaw: float,
        light: Light,
        sun_direction: NDArray,
        number: int,
    ) -> None:
        """Paint the solid onto a canvas.

        Args:
            canvas: to paint on.
            position: [3] of its center on the ground in the world, meters.
            yaw: radians by which it is turned to the right; at 0 it faces away from the camera.
            light: on it.
            sun_direction: unit vector [3] towards the sun.
            number: of the solid in the scene, from 1.
        """
        # rotates from the world's to own coordinates
        rotation = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
        half = np.array([self.size[0] / 2, self.size[1], self.size[2] / 2])
        low, high = half * (-1, 0, -1), half
        corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, 8)
        rows, columns = window = canvas.bounding_box((rotation.T @ corners).T + position)
        height, width = canvas.y[rows].shape[0], canvas.x[:, columns].shape[1]
        if not height * width:
            return
        across = np.broadcast_to((canvas.x[:, columns] - canvas.center) / canvas.camera.focal, (height, width))
        up = np.broadcast_to((canvas.camera.horizon - canvas.y[rows]) / canvas.camera.focal, (height, width))
        rays = (rotation @ np.stack([across.ravel(), up.ravel(), np.ones(height * width)])).astype(np.float32)  # [3, n]
        origin = (rotation @ (np.array(canvas.camera.position) - position)).astype(np.float32)[:, None]

        hit, depth = self._trace(origin, rays, low, high, 0.4 / canvas.size[0] / canvas.camera.focal)
        points = origin + depth[hit] * rays[:, hit]
        color, train_id = self._shade(points, rotation @ sun_direction, light)
        inside, colors = np.zeros((height, width), bool), np.zeros((height, width, 3), np.float32)
        ids, depths = np.zeros((height, width), np.uint8), np.ones((height, width), np.float32)
        inside.ravel()[hit], colors.reshape(-1, 3)[hit] = True, color
        ids.ravel()[hit], depths.ravel()[hit] = train_id, depth[hit]
        canvas.paint(Patch(window, depths, depths, inside, depths), 1, colors, ids, number)

    def distances(self, points: NDArray) -> NDArray:
        """Return the signed distances [parts, n] of points [3, n]."""
        return np.stack([part.distance(points) for part in self.parts])

    def _trace(
        self, origin: NDArray, rays: NDArray, low: NDArray, high: NDArray, pixel_size: float
    ) -> tuple[NDArray, NDArray]:
        """Intersect rays with the solid.

        Args:
            origin: [3, 1], start of all rays.
            rays: [3, n], directions of depth 1.
            low: [3], lower corner of the box.
            high: [3], upper corner.
            pixel_size: distance at depth 1 that counts as a hit, in meters.

        Returns:
            Indices of the rays that hit, and the depths [n] of all.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = np.stack([(low[:, None] - origin) / rays, (high[:, None] - origin) / rays])  # [2, 3, n]
        start = np.maximum(np.nanmax(walls.min(0), 0), 0.05).astype(np.float32)
        stop = np.nanmin(walls.max(0), 0).astype(np.float32)
        length = np.linalg.norm(rays, axis=0)
        depth = start.copy()
        active = np.flatnonzero(start < stop)
        hits = []
        for _ in range(MAX_TRACE_STEPS):
            if not len(active):
                break
            far = depth[active]
            step = self.distances(origin + far * rays[:, active]).min(0)
            close = step < pixel_size * far
            hits.append(active[close])
            depth[active] = np.where(close, far, far + step / length[active])
            active = active[~close & (depth[active] < stop[active])]
        return np.concatenate(hits) if hits else active, depth

    def _shade(self, points: NDArray, sun_direction: NDArray, light: Light) -> tuple[NDArray, NDArray]:
        """Return colors [n, 3] and classes [n] of points [3, n] on the surface.

        Args:
            points: in own coordinates.
            sun_direction: unit vector [3] towards the sun, in own coordinates.
            light: on the solid.
        """
        parts = self.distances(points).argmin(0)
        normal = np.zeros_like(points)
        color = np.zeros((points.shape[1], 3), np.float32)
        gloss = np.zeros(points.shape[1], np.float32)
        ids = np.zeros(points.shape[1], np.uint8)
        for index, part in enumerate(self.parts):
            nearest = np.flatnonzero(parts == index)
            if not len(nearest):
                continue
            p = points[:, nearest]
            base = part.distance(p)
            nudges = np.eye(3, dtype=np.float32) * np.float32(4e-3)
            normal[:, nearest] = np.stack([part.distance(p + nudge[:, None]) - base for nudge in nudges])
            color[nearest] = part.color(p) if callable(part.color) else np.asarray(part.color, np.float32)
            gloss[nearest], ids[nearest] = part.gloss, part.train_id
        normal /= np.linalg.norm(normal, axis=0) + 1e-9
        sky = 0.72 + 0.28 * normal[1] - 0.25 * np.clip(0.5 - points[1], 0, 1)  # less sky is visible near the ground
        sun = 1.15 * np.clip(np.asarray(sun_direction, np.float32) @ normal, 0, 1)
        lit = sky[:, None] * light.shadow + sun[:, None] * (light.sunlit - light.shadow)
        reflected = (gloss * np.clip(normal[1] + 0.15, 0, 1))[:, None] * light.shadow
        emits = color > 1
        return np.where(emits, color, color * lit * (1 - reflected) + reflected).astype(np.float32), ids


def ellipsoid(center: ArrayLike, radii: ArrayLike) -> SignedDistance:
    """Return the distance to an ellipsoid with radii [3], or to a ball with one radius."""
    center = np.asarray(center, np.float32)[:, None]
    radii = np.broadcast_to(np.asarray(radii, np.float32), (3,))[:, None]
    return lambda p: (np.sqrt((((p - center) / radii) ** 2).sum(0)) - 1) * radii.min()


def box(center: ArrayLike, size: ArrayLike, rounding: float = 0.0) -> SignedDistance:
    """Return the distance to a box of size [3], its edges rounded with a radius."""
    center, half = np.asarray(center, np.float32)[:, None], np.asarray(size, np.float32)[:, None] / 2 - rounding

    def distance(p: NDArray) -> NDArray:
        q = abs(p - center) - half
        outside = np.maximum(q, 0)
        return np.sqrt((outside * outside).sum(0)) + np.minimum(q.max(0), 0) - np.float32(rounding)

    return distance


def capsule(start: ArrayLike, stop: ArrayLike, radius: float) -> SignedDistance:
    """Return the distance to a capsule from ``start`` to ``stop``, [3] each."""
    start, stop = np.asarray(start, np.float32)[:, None], np.asarray(stop, np.float32)[:, None]
    along = stop - start
    square = float((along**2).sum())

    def distance(p: NDArray) -> NDArray:
        q = p - start
        t = np.clip((q * along).sum(0) / np.float32(square), 0, 1)
        q = q - t * along
        return np.sqrt((q * q).sum(0)) - np.float32(radius)

    return distance


def cylinder(center: ArrayLike, radius: float, width: float, axis: int = 0, rounding: float = 0.0) -> SignedDistance:
    """Return the distance to a cylinder of ``width`` along ``axis``, its edges rounded with a radius."""
    center = np.asarray(center, np.float32)[:, None]
    others = [i for i in range(3) if i != axis]

    def distance(p: NDArray) -> NDArray:
        q = p - center
        out = np.hypot(q[others[0]], q[others[1]]) - np.float32(radius - rounding)
        side = abs(q[axis]) - np.float32(width / 2 - rounding)
        return np.hypot(np.maximum(out, 0), np.maximum(side, 0)) + np.minimum(np.maximum(out, side), 0) - rounding

    return distance


def torus(center: ArrayLike, radius: float, thickness: float, axis: int = 0) -> SignedDistance:
    """Return the distance to a torus around ``axis``; ``thickness`` is the radius of its tube."""
    center = np.asarray(center, np.float32)[:, None]
    others = [i for i in range(3) if i != axis]

    def distance(p: NDArray) -> NDArray:
        q = p - center
        out = np.hypot(q[others[0]], q[others[1]]) - np.float32(radius)
        return np.hypot(out, q[axis]) - np.float32(thickness)

    return distance


def cone(radius: float, height: float) -> SignedDistance:
    """Return the distance to a cone that stands on the ground."""
    slope = np.float32(height / np.hypot(radius, height))

    def distance(p: NDArray) -> NDArray:
        return np.maximum((np.hypot(p[0], p[2]) - radius * (1 - p[1] / height)) * slope, p[1] - np.float32(height))

    return distance


def mirrored(shape: SignedDistance) -> SignedDistance:
    """Return the distance to ``shape``, on the right, and its mirror image on the left."""
    return lambda p: shape(np.stack([abs(p[0]), p[1], p[2]]))
