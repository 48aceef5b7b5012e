"""Motion between two frames: maps warped along it, and the optical flow of frames whose motion is not known."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..io.extras import import_extra

# Thresholds of Sundaram, Brox and Keutzer, in pixels squared: what the error may be of the flow's own square, and more.
RELATIVE_ERROR, ABSOLUTE_ERROR = 0.01, 0.5


def warp(before: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bring what was computed for the frame before to the places where this frame shows it, by bilinear interpolation.

    Args:
        before: [H, W] or [H, W, C] floating point, of the frame before.
        flow: [H, W, 2], what takes a pixel of this frame to its place in the frame before, in pixels to the right and
            down. Places outside of the image take the value of its border; see :func:`leaves_image`.

    Returns:
        Same shape and type as ``before``.

    Raises:
        ValueError: a flow of another size.

    Example:
        >>> shifted = warp(scores, np.full((*scores.shape, 2), (1.0, 0.0)))  # of each pixel, its right neighbor
    """
    before, flow = np.asarray(before), np.asarray(flow)
    height, width = before.shape[:2]
    if flow.shape != (height, width, 2):
        raise ValueError(f"flow: expected shape {[height, width, 2]} to match the map, got {list(flow.shape)}")
    column, across = _cell(np.arange(width), flow[..., 0], width, before.dtype)
    row, down = _cell(np.arange(height)[:, None], flow[..., 1], height, before.dtype)
    if before.ndim == 3:
        across, down = across[..., None], down[..., None]
    next_column, next_row = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    top = before[row, column] * (1 - across) + before[row, next_column] * across
    bottom = before[next_row, column] * (1 - across) + before[next_row, next_column] * across
    return top * (1 - down) + bottom * down


def leaves_image(flow: np.ndarray) -> np.ndarray:
    """Find the pixels that a flow [H, W, 2] takes out of the image, [H, W] bool."""
    height, width = flow.shape[:2]
    column, row = np.arange(width) + flow[..., 0], np.arange(height)[:, None] + flow[..., 1]
    return (column < 0) | (column > width - 1) | (row < 0) | (row > height - 1)


def optical_flow(before: Any, photo: Any) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the motion between two photos by OpenCV's dense inverse search.

    Sources: T. Kroeger, R. Timofte, D. Dai and L. Van Gool, "Fast Optical Flow using Dense Inverse Search" (ECCV 2016);
    occlusion by the forward-backward check of N. Sundaram, T. Brox and K. Keutzer, "Dense Point Trajectories by
    GPU-accelerated Large Displacement Optical Flow" (ECCV 2010).

    Args:
        before: [H, W, 3] uint8, the frame before.
        photo: [H, W, 3] uint8, this frame.

    Returns:
        flow: [H, W, 2] float32, what takes a pixel of ``photo`` to its place in ``before``; see :func:`warp`.
        occluded: [H, W] bool, where the flow leaves the image, or there and back does not end near its start.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: photos that are no [H, W, 3] uint8 of one size, 16 pixels or more.
    """
    cv2 = import_extra("cv2", "optical flow")
    before, photo = np.asarray(before), np.asarray(photo)
    for name, image in (("before", before), ("photo", photo)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 16:
            raise ValueError(
                f"{name}: expected [H, W, 3] uint8 of 16 pixels or more, got {image.dtype} {list(image.shape)}"
            )
    if before.shape != photo.shape:
        raise ValueError(f"before: expected shape {list(photo.shape)} as photo, got {list(before.shape)}")
    gray_before, gray = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, photo))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow, ahead = search.calc(gray, gray_before, None), search.calc(gray_before, gray, None)
    back = warp(ahead, flow)
    error = ((flow + back) ** 2).sum(-1)
    unlike = error > RELATIVE_ERROR * ((flow**2).sum(-1) + (back**2).sum(-1)) + ABSOLUTE_ERROR
    return flow, unlike | leaves_image(flow)


def _cell(start: np.ndarray, shift: np.ndarray, length: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the pixel at or before each place, and the share of the way to the next one."""
    place = np.clip(start + shift, 0, length - 1)
    index = np.floor(place).astype(np.intp)
    return index, (place - index).astype(dtype)
