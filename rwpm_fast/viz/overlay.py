"""Anomaly scores in color over the photo that they belong to."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .figures import color_map, score_range, to_array

_STRONGEST = 0.8  # weight of the color where the score is highest
_FADE = 1.5  # power of the level in the weight of its color: middling scores tint a photo faintly
_FOLLOW = 0.05  # weight of a frame's scores in a range that follows them
_SAMPLED = 4  # every so many rows and columns count for the range


class Overlay:
    """Draws score maps over photos, in one color range for all of them.

    Low scores leave the photo as it is, high ones cover it: the lower end of the range is transparent, the upper end
    bright yellow, in the color map of the other pictures ("inferno").

    Args:
        score_range: lower and upper end of the color range; None for one that follows the scores slowly, from
            percentiles 1 to 99.9 of the first photo on, so that colors of neighboring frames agree.

    Raises:
        ValueError: a range whose upper end is not above the lower one.
        ImportError: matplotlib is not installed.

    Example:
        >>> overlay = Overlay()
        >>> pictures = [overlay(result.photo, result.score) for result in results]
    """

    def __init__(self, score_range: tuple[float, float] | None = None) -> None:
        if score_range is not None and not score_range[0] < score_range[1]:
            raise ValueError(f"score_range: expected the lower end below the upper one, got {score_range}")
        self._fixed = score_range
        self._range: NDArray | None = None
        weight = _STRONGEST * np.linspace(0, 1, 256)[:, None] ** _FADE
        colors = color_map("inferno")(np.linspace(0, 1, 256))[:, :3] * 255
        # A pixel becomes (photo * keep + add) / 256.
        self._keep = np.round(256 * (1 - weight)).astype(np.uint16)
        self._add = np.round(256 * weight * colors).astype(np.uint16)

    def __call__(self, photo: ArrayLike, score: ArrayLike) -> NDArray:
        """Draw one photo.

        Args:
            photo: [H, W, 3] uint8, RGB.
            score: [H, W], higher is more anomalous; pixels without a finite score stay as they are.

        Returns:
            Picture, [H, W, 3] uint8.

        Raises:
            ValueError: sizes that differ.
        """
        pixels, scores = to_array("photo", photo), to_array("score", score)
        if pixels.shape != (*scores.shape, 3):
            raise ValueError(f"photo: expected {[*scores.shape, 3]} to match the score, got {list(pixels.shape)}")
        low, high = self._fixed or self._follow(scores)
        level = np.clip((scores - low) * (255 / (high - low)), 0, 255)
        levels: NDArray[np.uint8] = np.nan_to_num(level).astype(np.uint8)
        mixed = pixels * np.take(self._keep, levels, axis=0)
        mixed += np.take(self._add, levels, axis=0)
        return (mixed >> 8).astype(np.uint8)

    def _follow(self, scores: NDArray) -> tuple[float, float]:
        of_frame = np.array(score_range([scores[::_SAMPLED, ::_SAMPLED]]))
        self._range = of_frame if self._range is None else self._range + _FOLLOW * (of_frame - self._range)
        return float(self._range[0]), float(self._range[1])
