"""A small pinhole camera that paints flat patches of a world in meters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEAR = 0.3  # meters; a patch that reaches behind this plane is looked for in the whole image


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the road.

    Attributes:
        place: meters: x to the right of the road's middle, y up, z along the road.
        focal: focal length in image heights.
        horizon: the horizon's row in image heights from the top.
        shift: vanishing point's offset from the middle, in image heights.
    """

    place: tuple[float, float, float] = (1.6, 1.35, 0.0)
    focal: float = 0.95
    horizon: float = 0.43
    shift: float = 0.0


@dataclass(frozen=True)
class Patch:
    """Pixels that see a rectangle of the world, with their place on it."""

    window: tuple[slice, slice]
    a: NDArray  # [h, w] meters along the rectangle's first edge
    b: NDArray  # [h, w] meters along its second edge
    inside: NDArray  # [h, w] bool
    depth: NDArray  # [h, w] meters along z


class Canvas:
    """Colors and classes of an image under construction, far things painted first.

    Args:
        size: (height, width) in pixels.
        camera: where it is seen from.
        haze: color [3] in [0, 1] that distance fades into.
        visibility: meters after which 1 / e of a thing's own color is left.
    """

    def __init__(self, size: tuple[int, int], camera: Camera, haze: ArrayLike, visibility: float = 170) -> None:
        height, width = size
        self.size = size
        self.color = np.zeros((height, width, 3), np.float32)
        self.class_map = np.zeros((height, width), np.uint8)
        self.y = ((np.arange(height) + 0.5) / height)[:, None]  # [H, 1] image heights
        self.x = ((np.arange(width) + 0.5) / height)[None, :]  # [1, W] image heights
        self.center = width / height / 2 + camera.shift
        self.camera = camera
        self.haze = np.asarray(haze)
        self.visibility = visibility

    def patch(self, corner: ArrayLike, first: ArrayLike, second: ArrayLike) -> Patch:
        """Where the rectangle ``corner + a * first + b * second``, 0 <= a, b <= 1, is seen."""
        corner, first, second = (np.asarray(vector, float) for vector in (corner, first, second))
        window = self.window(corner + np.array([0 * first, first, second, first + second]))
        rows, columns = window
        ray_x = (self.x[:, columns] - self.center) / self.camera.focal  # [1, w]
        ray_y = (self.camera.horizon - self.y[rows]) / self.camera.focal  # [h, 1]
        offset = corner - np.array(self.camera.place)
        normal = np.cross(first, second)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = offset @ normal / (ray_x * normal[0] + ray_y * normal[1] + normal[2])  # [h, w]
            along = []
            for edge in (first, second):
                length = np.linalg.norm(edge)
                unit = edge / length
                place = depth * (ray_x * unit[0] + ray_y * unit[1] + unit[2]) - offset @ unit
                along.append((place, length))
        (a, width), (b, height) = along
        inside = (depth > NEAR) & (a >= 0) & (a <= width) & (b >= 0) & (b <= height)
        place = (np.where(inside, field, 0).astype(np.float32) for field in (a, b))
        return Patch(window, *place, inside, np.where(inside, depth, 1).astype(np.float32))

    def upright(self, x: float, z: float, width: float, height: float) -> Patch:
        """A patch that faces the camera, standing on the ground with its middle at (x, z)."""
        return self.patch((x - width / 2, 0, z), (width, 0, 0), (0, height, 0))

    def paint(self, patch: Patch, mask: NDArray, color: ArrayLike, train_id: int | NDArray | None) -> None:
        """Paint the patch's pixels in ``mask``: bool, or opacity in [0, 1]; ``train_id`` None keeps the class."""
        opacity = (patch.inside * mask)[..., None]
        fade = np.exp(-patch.depth / self.visibility)[..., None]
        target = self.color[patch.window]
        target += opacity * (fade * np.asarray(color) + (1 - fade) * self.haze - target)
        if train_id is not None:
            np.copyto(self.class_map[patch.window], np.uint8(train_id), where=opacity[..., 0] > 0.5)

    def label(self, patch: Patch, mask: NDArray, train_id: int) -> None:
        """Give the patch's pixels in ``mask`` a class and leave their colors."""
        self.class_map[patch.window][patch.inside & mask] = train_id

    def shade(self, patch: Patch, mask: NDArray, light: ArrayLike) -> None:
        """Multiply colors by ``light`` [3] where ``mask`` is 1."""
        opacity = (patch.inside * mask)[..., None]
        self.color[patch.window] *= 1 - opacity * (1 - np.asarray(light))

    def window(self, corners: NDArray) -> tuple[slice, slice]:
        """Bounding box in pixels of corners [4, 3]."""
        height, width = self.size
        offset = corners - np.array(self.camera.place)
        if offset[:, 2].min() < NEAR:
            return slice(0, height), slice(0, width)
        x = self.center + self.camera.focal * offset[:, 0] / offset[:, 2]
        y = self.camera.horizon - self.camera.focal * offset[:, 1] / offset[:, 2]
        low, high = (np.floor(min(v) * height) for v in (y, x)), (np.ceil(max(v) * height) for v in (y, x))
        return tuple(
            slice(int(np.clip(start, 0, limit)), int(np.clip(stop + 1, 0, limit)))
            for start, stop, limit in zip(low, high, (height, width), strict=True)
        )


class Noise:
    """Smooth fractal noise in [0, 1] over the plane, the same at every resolution."""

    def __init__(self, rng: np.random.Generator) -> None:
        # one more row and column repeat the first, so that a cell's four corners need no modulo
        self._lattice = np.pad(rng.random((256, 256), np.float32), ((0, 1), (0, 1)), "wrap").ravel()

    def __call__(self, a: ArrayLike, b: ArrayLike, octaves: int = 4) -> NDArray:
        """Noise at coordinates that broadcast; features are one unit large, then halve with each octave."""
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        total, weights = np.float32(0), 0.0
        for octave in range(octaves):
            scale, weight = np.float32(2**octave), np.float32(0.55**octave)
            total = total + weight * self._smooth(a * scale + np.float32(37.7 * octave), b * scale)
            weights += weight
        return total / np.float32(weights)

    def _smooth(self, a: NDArray, b: NDArray) -> NDArray:
        row, column = np.floor(a), np.floor(b)
        s, t = a - row, b - column
        s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
        cell = (row.astype(np.int32) & 255) * 257 + (column.astype(np.int32) & 255)
        corner = self._lattice.take
        top = corner(cell) * (1 - t) + corner(cell + 1) * t
        bottom = corner(cell + 257) * (1 - t) + corner(cell + 258) * t
        return top * (1 - s) + bottom * s
