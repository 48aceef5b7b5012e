"""Render a drive: one scene, seen frame by frame from a camera that approaches it, with the exact motion of each pixel.

The world of a drive is drawn once, by its seed, and everything in it stands still, but for an object that crosses the
road if asked for. The camera moves straight ahead and ends where :func:`rwpm_fast.scenes.render_scene` has it, so that
nothing is driven through. Sensor noise, rain and snow differ from frame to frame; exposure follows the brightness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.frames import ANOMALY
from ..metrics.flow import leaves_image, warp
from .anomalies import draw_anomaly
from .builder import SceneBuilder
from .canvas import Canvas
from .holdout import MIN_ANOMALY_SHARE
from .labels import UNKNOWN, anomaly_labels
from .render import complete

SAME_DEPTH = 0.02  # relative difference of depth up to which a pixel shows the same surface as before
CROSSING_RANGE = (6.0, 16.0)  # meters ahead of the drive's end at which an object may cross
_SEARCH = 4  # worlds are searched for anomalies at a quarter of the size


@dataclass(frozen=True, eq=False)
class DriveFrame:
    """A frame of a drive.

    Attributes:
        index: its number, from 0.
        seconds: its time since the first frame.
        photo: [H, W, 3] uint8.
        class_map: [H, W] uint8; see :class:`rwpm_fast.scenes.Scene`.
        labels: [H, W] uint8: 0 inlier, 1 anomaly (objects of no known class), 255 void (the hood of the ego vehicle).
        flow: [H, W, 2] float32, what takes a pixel to its place in the frame before, in pixels to the right and down:
            the pixel at column c and row r was at (c + flow[r, c, 0], r + flow[r, c, 1]). Zeros in the first frame.
            It is that of surfaces; shadows on the ground, reflections and what is seen through a fence move otherwise.
        occluded: [H, W] bool, where the frame before does not show the same point: it was hidden or outside of the
            image. All of the first frame.
    """

    index: int
    seconds: float
    photo: NDArray
    class_map: NDArray
    labels: NDArray
    flow: NDArray
    occluded: NDArray


def render_drive(
    seed: int = 0,
    frames: int = 24,
    size: tuple[int, int] = (512, 1024),
    *,
    speed: float = 8.0,
    rate: float = 12.0,
    crossing: bool = False,
) -> Iterator[DriveFrame]:
    """Render the frames of a drive towards a scene with unknown objects; equal arguments give equal bits.

    Worlds come from children of the seed, as for :func:`rwpm_fast.scenes.render_holdout_scene`, until one shows
    unknown objects on at least 0.2 % of the last frame's pixels, seen at a quarter of its size.

    Args:
        seed: number of the drive, >= 0.
        frames: number of frames, >= 1.
        size: (height, width) in pixels, each 16 or more.
        speed: of the camera in meters per second, >= 0. What is more than some 30 m before the drive's end is empty.
        rate: frames per second, > 0.
        crossing: whether an unknown object crosses the road from left to right, or from right to left, while the drive
            lasts.

    Yields:
        The frames, one at a time; two are in memory.

    Raises:
        ValueError: an argument outside its range, before anything is rendered.

    Example:
        >>> for frame in render_drive(seed=0, frames=3, size=(64, 128)):
        ...     print(frame.index, frame.photo.shape, frame.occluded.mean() < 0.5)
        0 (64, 128, 3) False
        1 (64, 128, 3) True
        2 (64, 128, 3) True
    """
    for name, value, wanted, right in (
        ("seed", seed, "0 or more", seed >= 0),
        ("frames", frames, "1 or more", frames >= 1),
        ("size", f"{size[0]} x {size[1]}", "a height and width of 16 pixels or more", min(size) >= 16),
        ("speed", speed, "0 or more meters per second", 0 <= speed < np.inf),
        ("rate", rate, "more than 0 frames per second", 0 < rate < np.inf),
    ):
        if not right:
            raise ValueError(f"{name}: expected {wanted}, got {value}")
    return _frames(seed, frames, size, speed / rate, rate, crossing)


def _frames(
    seed: int, frames: int, size: tuple[int, int], step: float, rate: float, crossing: bool
) -> Iterator[DriveFrame]:
    world, objects, moments = _choose_world(seed, size)
    before: _View | None = None
    for index, moment in enumerate(moments.spawn(frames)):
        add = _Crossing(np.random.default_rng(objects), (index + 0.5) / frames) if crossing else None
        scene = SceneBuilder(np.random.default_rng(world), size, ego_z=step * (index - frames + 1))
        rendered = complete(scene, add, np.random.default_rng(moment))
        view = _View(scene.canvas)
        if add is not None:
            view.moving, view.moving_x = rendered.object_map == add.number, add.world_x
        flow, occluded = view.since(before or view)
        yield DriveFrame(
            index=index,
            seconds=index / rate,
            photo=rendered.photo,
            class_map=rendered.class_map,
            labels=anomaly_labels(rendered.class_map),
            flow=flow,
            occluded=occluded | (before is None),
        )
        before = view


def _choose_world(
    seed: int, size: tuple[int, int]
) -> tuple[np.random.SeedSequence, np.random.SeedSequence, np.random.SeedSequence]:
    """Return the seeds of a world with anomalies, of what crosses its road, and of the frames' noise."""
    height, width = size
    small = max(16, height // _SEARCH), max(16, width // _SEARCH)
    sequence = np.random.SeedSequence(seed)
    while True:
        world = sequence.spawn(1)[0]
        seen = complete(SceneBuilder(np.random.default_rng(world), small))
        if (anomaly_labels(seen.class_map) == ANOMALY).mean() >= MIN_ANOMALY_SHARE:
            objects, moments = world.spawn(2)
            return world, objects, moments


class _Crossing:
    """An unknown object that crosses the road; it does not turn.

    Args:
        rng: source of everything about it, in the same state for every frame.
        done: share of the way that it has gone, in [0, 1].

    Attributes:
        number: that of its pixels; 0 until it is added.
        world_x: of it in this frame.
    """

    def __init__(self, rng: np.random.Generator, done: float) -> None:
        self.rng, self.done = rng, done
        self.number, self.world_x = 0, 0.0

    def __call__(self, scene: SceneBuilder) -> None:
        """Queue it where it is in this frame."""
        solid = draw_anomaly(self.rng, scene.noise)
        start, stop = scene.road.edges if self.rng.random() < 0.5 else scene.road.edges[::-1]
        yaw = self.rng.uniform(-np.pi, np.pi)
        z = scene.free_z(*CROSSING_RANGE, *scene.road.edges)
        x = start + (stop - start) * self.done
        self.number, self.world_x = scene.add_solid(solid, x, z, yaw), scene.world_x(x, z)


class _View:
    """What the motion to the next frame is computed of.

    Args:
        canvas: the painted scene.

    Attributes:
        moving: [H, W] bool, or False for all, the pixels of what moves.
        moving_x: its place across the road in the world, meters.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.camera, self.depth, self.class_map = canvas.camera, canvas.depth, canvas.class_map
        # of the vanishing point, in image heights
        self.right, self.down = canvas.x - canvas.center, canvas.y - canvas.camera.horizon
        self.moving: NDArray | bool = False
        self.moving_x = 0.0

    def since(self, before: _View) -> tuple[NDArray, NDArray]:
        """Return the flow [H, W, 2] from this frame to the one before, and where that one hides the same point."""
        height, width = self.depth.shape
        step = self.camera.position[2] - before.camera.position[2]
        moving = self.moving & (self.class_map == UNKNOWN)  # other classes have any number
        shift = np.where(moving, before.moving_x - self.moving_x, 0.0)  # meters
        depth = self.depth.astype(np.float64)
        approach = step / (depth + step)  # the share by which things were nearer to the vanishing point
        flow = np.empty((height, width, 2), np.float32)
        flow[..., 0] = height * (self.camera.focal * shift / (depth + step) - self.right * approach)
        flow[..., 1] = -height * self.down * approach
        return flow, leaves_image(flow) | self._differs(before, flow, depth + step)

    def _differs(self, before: _View, flow: NDArray, depth_before: NDArray) -> NDArray:
        """Find the pixels whose place in the frame before shows another class, or a point at another depth.

        Inverse depth is linear over the image of a plane, so that it may be interpolated.
        """
        height, width = self.depth.shape
        column = np.clip(np.rint(np.arange(width) + flow[..., 0]), 0, width - 1).astype(int)
        row = np.clip(np.rint(np.arange(height)[:, None] + flow[..., 1]), 0, height - 1).astype(int)
        inverse = warp(1 / before.depth, flow)
        far = np.isinf(depth_before)
        other_depth = np.where(far, inverse > 0, abs(inverse * np.where(far, 1, depth_before) - 1) > SAME_DEPTH)
        return (before.class_map[row, column] != self.class_map) | other_depth
