"""A figure of several photos, a row each: photo, ground truth and the scores of several methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.frames import ANOMALY, VOID
from .figures import blank_figure, color_map, downsample, score_range, to_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CELL = 400  # pixels of a longer side: as large as a cell of five columns is drawn
WIDTH = 16.0  # inches of the figure
TRUTH_COLORS = {"inlier": (32, 32, 32), "anomaly": (230, 85, 13), "void": (140, 140, 140)}


@dataclass(frozen=True, eq=False)
class GridRow:
    """What a row of :func:`photo_grid` shows, no larger than it is drawn; see :func:`grid_row`.

    Attributes:
        caption: of the photo.
        photo: [h, w, 3] uint8, RGB.
        truth: the same, by ``TRUTH_COLORS``.
        scores: a map [h, w] per method, higher is more anomalous; NaN on void pixels.
    """

    caption: str
    photo: NDArray
    truth: NDArray
    scores: tuple[NDArray, ...]


def grid_row(caption: str, photo: ArrayLike, labels: ArrayLike, scores: Sequence[ArrayLike]) -> GridRow:
    """Make a row of a photo at a fraction of its size, so that many photos fit into memory.

    Args:
        caption: of the photo, such as its name.
        photo: [H, W, 3], 0..255; array or tensor, as all maps.
        labels: [H, W], 0 inlier, 1 anomaly, 255 void.
        scores: a score map [H, W] per method.

    Raises:
        ValueError: no score map, or shapes that do not match.
    """
    pixels, truth = to_array("photo", photo), to_array("labels", labels)
    maps = [to_array("scores", score).astype(np.float64) for score in scores]
    if not maps:
        raise ValueError("scores: expected one map or more, got none")
    if truth.ndim != 2 or 0 in truth.shape:
        raise ValueError(f"labels: expected a map [H, W], got {list(truth.shape)}")
    for name, shape, wanted in (
        ("photo", pixels.shape, (*truth.shape, 3)),
        *(("scores", score.shape, truth.shape) for score in maps),
    ):
        if shape != wanted:
            raise ValueError(f"{name}: expected {list(wanted)} to match labels, got {list(shape)}")
    void, anomaly = (truth == VOID)[..., None], (truth == ANOMALY)[..., None]
    colors = {name: np.array(color, np.float64) for name, color in TRUTH_COLORS.items()}
    painted = np.where(void, colors["void"], np.where(anomaly, colors["anomaly"], colors["inlier"]))
    shown = np.clip(pixels, 0, 255)
    shown = np.where(void, 0.45 * shown + 0.55 * colors["void"], shown)
    return GridRow(
        caption,
        downsample(shown, MAX_CELL).astype(np.uint8),
        downsample(painted, MAX_CELL).astype(np.uint8),
        tuple(downsample(np.where(void[..., 0], np.nan, score), MAX_CELL).astype(np.float32) for score in maps),
    )


def photo_grid(rows: Sequence[GridRow], titles: Sequence[str]) -> Figure:
    """Draw photos, their ground truth and their scores, a row per photo.

    All maps of a column share a color range, percentiles 1 to 99.9 of them together, so that equal colors mean equal
    scores of a method. Void pixels are gray in every column, and pixels without a finite score in that of the score.

    Args:
        rows: in the order to draw, made by :func:`grid_row`; photos may differ in size.
        titles: of the score maps, as many as each row has.

    Raises:
        ValueError: no row, or one of other than ``len(titles)`` score maps.
        ImportError: matplotlib is not installed.

    Example:
        >>> row = grid_row("street", photo, labels, [entropy, score])
        >>> photo_grid([row], ["Softmax entropy", "SynBoost"]).savefig("grid.png")
    """
    if not rows:
        raise ValueError("rows: expected one or more, got none")
    for row in rows:
        if len(row.scores) != len(titles):
            raise ValueError(f"titles: expected one for each of {len(row.scores)} score maps, got {len(titles)}")
    headings = ["Photo", "Ground truth", *titles]
    heights = [float(np.clip(row.photo.shape[0] / row.photo.shape[1], 0.25, 2.5)) for row in rows]
    figure = blank_figure((WIDTH, WIDTH / len(headings) * sum(heights) + 0.6))
    axes = figure.subplots(len(rows), len(headings), squeeze=False, height_ratios=heights)
    ranges = [score_range([_flat(maps)]) for maps in zip(*(row.scores for row in rows), strict=True)]
    for line, row in zip(axes, rows, strict=True):
        line[0].imshow(row.photo)
        line[1].imshow(row.truth)
        for ax, score, (low, high) in zip(line[2:], row.scores, ranges, strict=True):
            ax.imshow(score, cmap=color_map("inferno"), vmin=low, vmax=high)
        for ax in line:
            ax.set_axis_off()
        caption = line[0].text(
            0.01,
            0.02,
            row.caption,
            transform=line[0].transAxes,
            fontsize=8,
            color="white",
            bbox={"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1.5},
            parse_math=False,  # a name may have dollar signs
            clip_on=True,
        )
        caption.set_in_layout(False)  # a long name is cut, and does not make room for itself
    for ax, heading in zip(axes[0], headings, strict=True):
        ax.set_title(heading, fontsize=min(12.0, 64 / len(headings)), loc="left", parse_math=False)
    return figure


def _flat(maps: Sequence[NDArray]) -> NDArray:
    """All pixels of maps of several sizes, [1, N]."""
    return np.concatenate([score.ravel() for score in maps])[None]
