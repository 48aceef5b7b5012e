"""A pinhole camera, and a canvas that paints flat rectangles of a world in meters as the camera sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEAR_PLANE = 0.3  # meters; a rectangle that reaches behind this plane is searched for in the whole image


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the road.

    Attributes:
        position: meters: x to the right of the road's center line, y up, z along the road.
        focal: focal length in image heights.
        horizon: row of the horizon, in image heights from the top.
        center_offset: of the vanishing point from the middle of the image, in image heights.
    """

    position: tuple[float, float, float]
    focal: float
    horizon: float
    center_offset: float


@dataclass(frozen=True)
class Patch:
    """The pixels that see a rectangle of the world, with their coordinates on it.

    Attributes:
        window: rows and columns of the pixels.
        u: [h, w] meters along the rectangle's first edge.
        v: [h, w] meters along its second edge.
        inside: [h, w] bool, whether the pixel sees the rectangle.
        depth: [h, w] meters along z.
    """

    window: tuple[slice, slice]
    u: NDArray
    v: NDArray
    inside: NDArray
    depth: NDArray


class Canvas:
    """Colors and classes of an image under construction; what is far is painted first.

    Args:
        size: (height, width) in pixels.
        camera: that sees the world.
        haze: color [3] in [0, 1] that distance fades into.
        visibility: meters after which 1 / e of a color is left.

    Attributes:
        color: [H, W, 3] float32, the image so far.
        class_map: [H, W] uint8, the train ids so far.
        object_map: [H, W] uint16, the numbers of the solids so far, 0 where a pixel shows none.
        depth: [H, W] float32, meters along z to what the class belongs to; infinite for what does not come nearer as
            the camera moves: sky, ridges along the horizon and the hood of the ego vehicle.
        x: [1, W] columns of the pixels' centers, in image heights.
        y: [H, 1] rows of the pixels' centers, in image heights.
        center: column of the vanishing point, in image heights.
    """

    def __init__(self, size: tuple[int, int], camera: Camera, haze: ArrayLike, visibility: float) -> None:
        height, width = size
        self.size = size
        self.color = np.zeros((height, width, 3), np.float32)
        self.class_map = np.zeros((height, width), np.uint8)
        self.object_map = np.zeros((height, width), np.uint16)
        self.depth = np.full((height, width), np.inf, np.float32)
        self.y = ((np.arange(height) + 0.5) / height)[:, None]
        self.x = ((np.arange(width) + 0.5) / height)[None, :]
        self.center = width / height / 2 + camera.center_offset
        self.camera = camera
        self.haze = np.asarray(haze)
        self.visibility = visibility

    def patch(self, corner: ArrayLike, first: ArrayLike, second: ArrayLike) -> Patch:
        """Find the pixels that see the rectangle ``corner + s * first + t * second``, 0 <= s, t <= 1.

        Args:
            corner: [3] meters in the world.
            first: [3] meters, the edge along which the patch's ``u`` runs.
            second: [3] meters, the edge along which ``v`` runs; at a right angle to the first.
        """
        corner, first, second = (np.asarray(vector, float) for vector in (corner, first, second))
        window = self.bounding_box(corner + np.array([0 * first, first, second, first + second]))
        rows, columns = window
        ray_x = (self.x[:, columns] - self.center) / self.camera.focal  # [1, w]
        ray_y = (self.camera.horizon - self.y[rows]) / self.camera.focal  # [h, 1]
        offset = corner - np.array(self.camera.position)
        normal = np.cross(first, second)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = offset @ normal / (ray_x * normal[0] + ray_y * normal[1] + normal[2])  # [h, w]
            coordinates = []
            for edge in (first, second):
                length = np.linalg.norm(edge)
                unit = edge / length
                along = depth * (ray_x * unit[0] + ray_y * unit[1] + unit[2]) - offset @ unit
                coordinates.append((along, length))
        (u, width), (v, height) = coordinates
        inside = (depth > NEAR_PLANE) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
        u, v = (np.where(inside, field, 0).astype(np.float32) for field in (u, v))
        return Patch(window, u, v, inside, np.where(inside, depth, 1).astype(np.float32))

    def upright(self, x: float, z: float, width: float, height: float) -> Patch:
        """Find the pixels of a rectangle that faces the camera and stands on the ground, centered at (x, z)."""
        return self.patch((x - width / 2, 0, z), (width, 0, 0), (0, height, 0))

    def paint(
        self,
        patch: Patch,
        mask: NDArray | float,
        color: ArrayLike,
        train_id: int | NDArray | None,
        number: int = 0,
    ) -> None:
        """Paint pixels of a patch, and fade them into the haze.

        Args:
            patch: where.
            mask: [h, w] bool, or opacity in [0, 1].
            color: [3] or [h, w, 3].
            train_id: class, one or [h, w]; set where the opacity is above 0.5. None keeps class and number.
            number: that of the solid that is painted, 0 for everything else; set where the class is.
        """
        opacity = (patch.inside * mask)[..., None]
        fade = np.exp(-patch.depth / self.visibility)[..., None]
        target = self.color[patch.window]
        target += opacity * (fade * np.asarray(color) + (1 - fade) * self.haze - target)
        if train_id is not None:
            opaque = opacity[..., 0] > 0.5
            np.copyto(self.class_map[patch.window], np.uint8(train_id), where=opaque)
            np.copyto(self.object_map[patch.window], np.uint16(number), where=opaque)
            np.copyto(self.depth[patch.window], patch.depth, where=opaque)

    def label(self, patch: Patch, mask: NDArray, train_id: int) -> None:
        """Set the class of a patch's pixels in ``mask``, and keep their colors."""
        labeled = patch.inside & mask
        np.copyto(self.class_map[patch.window], np.uint8(train_id), where=labeled)
        np.copyto(self.depth[patch.window], patch.depth, where=labeled)

    def shade(self, patch: Patch, mask: NDArray, light: ArrayLike) -> None:
        """Multiply the colors of a patch's pixels by ``light`` [3], by less where ``mask`` is below 1."""
        opacity = (patch.inside * mask)[..., None]
        self.color[patch.window] *= 1 - opacity * (1 - np.asarray(light))

    def bounding_box(self, corners: NDArray) -> tuple[slice, slice]:
        """Return rows and columns of the pixels that may see anything between points [n, 3] of the world."""
        height, width = self.size
        offset = corners - np.array(self.camera.position)
        if offset[:, 2].min() < NEAR_PLANE:
            return slice(0, height), slice(0, width)
        x = self.center + self.camera.focal * offset[:, 0] / offset[:, 2]
        y = self.camera.horizon - self.camera.focal * offset[:, 1] / offset[:, 2]
        low, high = (np.floor(min(v) * height) for v in (y, x)), (np.ceil(max(v) * height) for v in (y, x))
        rows, columns = (
            slice(int(np.clip(start, 0, limit)), int(np.clip(stop + 1, 0, limit)))
            for start, stop, limit in zip(low, high, (height, width), strict=True)
        )
        return rows, columns
