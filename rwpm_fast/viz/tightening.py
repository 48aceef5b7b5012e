"""Figure of how a walk draws a class together: its pixels, one pixel's neighbors, a projection, numbers by step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..metrics.tightness import Tightness
from ..scoring.tightening import Neighbors, PhotoPixels
from .figures import CURVE_COLORS, GRAY, MAX_SIDE, blank_figure, downsample
from .projection import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE, AFTER = CURVE_COLORS[:2]  # those without and with the walk everywhere
OTHERS_COLOR = "#bdbdbd"  # of pixels of other classes
LARGEST_REACH = 9  # cells from the pixel to the edge of its surroundings, at most
SMALLEST_REACH = 3


@dataclass(frozen=True, eq=False)
class TightenedClass:
    """What :func:`tightening_figure` draws.

    Attributes:
        photo: [H, W, 3] uint8, RGB.
        area: [H, W] bool, where the network sees the class.
        name: of the class.
        label: its number.
        pixels: of the photo.
        pixel: the one whose neighbors are shown.
        nearest: its neighbors before and after the walk.
        sample: [n] numbers of the pixels of the projection.
        projection: of the sample.
        numbers: of the steps 0 to T.
        caption: a line below.
    """

    photo: NDArray
    area: NDArray
    name: str
    label: int
    pixels: PhotoPixels
    pixel: int
    nearest: tuple[Neighbors, Neighbors]
    sample: NDArray
    projection: Projection
    numbers: Sequence[Tightness]
    caption: str


def tightening_figure(shown: TightenedClass) -> Figure:
    """Draw how a walk draws a class together.

    In the upper row the photo, gray where it is not of the class, and a projection of pixels before and after the walk
    on the same axes. In the lower row the surroundings of one pixel with its five nearest neighbors before and after,
    their cosines with it, and the numbers of the class and of all classes after every step.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = blank_figure((17.0, 8.8))
    halves = figure.add_gridspec(1, 2, width_ratios=(1.2, 2.0))
    left, right = halves[0].subgridspec(2, 2, height_ratios=(1.1, 1.0)), halves[1].subgridspec(2, 2)
    steps = len(shown.numbers) - 1
    moments = ("before the walk", f"after {steps} step{'s' if steps != 1 else ''}")
    _draw_photo(figure.add_subplot(left[0, :]), shown)
    for column, (neighbors, moment, color) in enumerate(zip(shown.nearest, moments, (BEFORE, AFTER), strict=True)):
        _draw_surroundings(figure.add_subplot(left[1, column]), shown, neighbors, f"Nearest {moment}", color)
    _draw_projection([figure.add_subplot(right[0, column]) for column in (0, 1)], shown, moments)
    _draw_cosines(figure.add_subplot(right[1, 0]), shown.nearest, moments)
    of_numbers = right[1, 1].subgridspec(2, 1)
    _draw_numbers([figure.add_subplot(of_numbers[row]) for row in (0, 1)], shown)
    if shown.caption:
        figure.supxlabel(shown.caption, fontsize=10, parse_math=False)
    return figure


def _draw_photo(ax: Axes, shown: TightenedClass) -> None:
    """The photo with the class in color, the pixel and all neighbors."""
    ax.imshow(_faded(shown), extent=_extent(shown))
    before, after = shown.nearest
    for neighbors, color in ((after, AFTER), (before, BEFORE)):
        _draw_cells(ax, shown, neighbors.pixels, facecolor=color, edgecolor="white", linewidth=0.4)
    _draw_cells(ax, shown, [shown.pixel], facecolor="white", edgecolor="black", linewidth=1.0)
    top, bottom, left, right = _surroundings(shown)
    frame = [left, right, right, left, left], [top, top, bottom, bottom, top]
    for color, width in (("white", 2.0), ("black", 1.0)):  # seen on light and on dark
        ax.plot(*frame, color=color, linewidth=width)
    height, width = shown.photo.shape[:2]
    ax.set(xlim=(0, width), ylim=(height, 0), anchor="NW")
    ax.set_title(
        f"Pixels of class {shown.name} in color, the frame enlarged below", fontsize=12, loc="left", parse_math=False
    )
    ax.set_axis_off()


def _draw_surroundings(ax: Axes, shown: TightenedClass, neighbors: Neighbors, title: str, color: str) -> None:
    """The pixel's surroundings with its neighbors, numbered from the most similar on."""
    ax.imshow(_faded(shown, max_side=4 * MAX_SIDE), extent=_extent(shown))
    top, bottom, left, right = _surroundings(shown)
    _draw_cells(ax, shown, neighbors.pixels, facecolor=color, edgecolor="white", linewidth=0.8)
    _draw_cells(ax, shown, [shown.pixel], facecolor="white", edgecolor="black", linewidth=1.2)
    outside = 0
    for rank, place in enumerate(neighbors.pixels, 1):
        row, column = shown.pixels.centers[place].tolist()
        if top < row < bottom and left < column < right:
            ax.text(column, row, str(rank), color="white", fontsize=9, weight="bold", ha="center", va="center")
        else:
            outside += 1
    if outside:
        box = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 2}
        ax.text(0.02, 0.03, f"{outside} farther away", transform=ax.transAxes, fontsize=9, bbox=box)
    ax.set(xlim=(left, right), ylim=(bottom, top), anchor="N")
    ax.set_title(title, fontsize=11, loc="left", color=color)
    ax.set_axis_off()


def _draw_projection(axes: Sequence[Axes], shown: TightenedClass, moments: Sequence[str]) -> None:
    """The sample before and after the walk, in the same ranges."""
    projection, sample = shown.projection, shown.sample
    member = shown.pixels.classes.numpy()[sample] == shown.label
    both = np.concatenate([projection.before, projection.after])
    low, high = both.min(0), both.max(0)
    room = 0.05 * (high - low) + 1e-9
    points_of = (projection.before, projection.after)
    for ax, points, neighbors, color, moment in zip(
        axes, points_of, shown.nearest, (BEFORE, AFTER), moments, strict=True
    ):
        pixel, near = points[sample == shown.pixel], points[np.isin(sample, neighbors.pixels)]
        _dots(ax, points[~member], s=7, color=OTHERS_COLOR, linewidths=0, label="other classes")
        _dots(ax, points[member], s=9, color=color, alpha=0.6, linewidths=0, label=shown.name)
        _dots(ax, pixel, s=190, marker="*", color="white", edgecolors="black", label="the pixel")
        _dots(ax, near, s=22, color=color, edgecolors="black", linewidths=0.8, label="its nearest")
        legend = ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=4,
            frameon=False,
            fontsize=9,
            columnspacing=1,
            handletextpad=0,
        )
        small: Any = legend.legend_handles[:2]
        for handle in small:
            handle.set_sizes([40])  # in a dot of its own size nobody sees the color
        ax.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
        ax.set(xlabel=projection.axes[0], ylabel=projection.axes[1])
        ax.set_title(f"Embeddings {moment}", fontsize=12, loc="left")
        _plain(ax)


def _draw_cosines(ax: Axes, nearest: Sequence[Neighbors], moments: Sequence[str]) -> None:
    """Each neighbor's cosine before and after the walk."""
    ticks: dict[float, str] = {}
    for group, (neighbors, moment, color) in enumerate(zip(nearest, moments, (BEFORE, AFTER), strict=True)):
        first = group * (len(neighbors.pixels) + 1.4) + 1
        heading = f"nearest {moment}"
        ax.text(0.01, first - 0.8, heading, transform=ax.get_yaxis_transform(), fontsize=9, color=color, va="center")
        for rank, (before, after) in enumerate(zip(neighbors.before, neighbors.after, strict=True), 1):
            y = first + rank - 1
            ticks[y] = str(rank)
            ax.plot([before, after], [y, y], color=GRAY, linewidth=1.2, zorder=1)
            # The smaller of the two has its number on the left, so that the line runs between the numbers.
            for cosine, other, shade in ((before, after, BEFORE), (after, before, AFTER)):
                ax.scatter([cosine], [y], s=30, color=shade, zorder=2)
                on_left = cosine < other or (cosine == other and shade == BEFORE)
                ax.annotate(
                    f"{cosine:.4f}",
                    (cosine, y),
                    (-7 if on_left else 7, 0),
                    textcoords="offset points",
                    ha="right" if on_left else "left",
                    va="center",
                    fontsize=9,
                    color=shade,
                )
    cosines = [cosine for neighbors in nearest for cosine in (*neighbors.before, *neighbors.after)]
    low, high = min(cosines), max(cosines)
    room = 0.25 * max(high - low, 1e-4)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.set(xlim=(low - room, high + room), ylim=(max(ticks) + 0.7, -0.2))
    ax.set_xticks([tick for tick in ax.get_xticks() if low - room <= tick <= 1])
    ax.set(xlabel="cosine with the pixel", ylabel="neighbor")
    ax.set_title("Five nearest neighbors, cosine before and after", fontsize=12, loc="left")
    _plain(ax)


def _draw_numbers(axes: Sequence[Axes], shown: TightenedClass) -> None:
    """Spread and margin by step, of the class and of all classes."""
    means = [numbers.mean() for numbers in shown.numbers]
    own = [(float(numbers.spread[shown.label]), float(numbers.margin[shown.label])) for numbers in shown.numbers]
    titles = "Within-class spread (1 − cosine)", "Between-class margin (difference of cosines)"
    for number, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        for pairs, label, color, line in (
            (own, shown.name, "black", "o-"),
            (means, "mean of all classes", GRAY, "s--"),
        ):
            ax.plot([pair[number] for pair in pairs], line, color=color, label=label, markersize=3.5, linewidth=1.4)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_title(title, fontsize=12, loc="left")
        ax.locator_params(axis="x", integer=True)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        _plain(ax)
    axes[0].legend(frameon=False, fontsize=9)
    axes[1].set_xlabel("step")


def _plain(ax: Axes) -> None:
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _dots(ax: Axes, points: NDArray, **style: Any) -> None:
    ax.scatter(points[:, 0], points[:, 1], **style)


def _draw_cells(ax: Axes, shown: TightenedClass, places: Iterable[int], **style: Any) -> None:
    """Pixels of the embedding map as rectangles."""
    from matplotlib.patches import Rectangle

    height, width = shown.pixels.cell
    for place in places:
        row, column = shown.pixels.centers[place].tolist()
        ax.add_patch(Rectangle((column - width / 2, row - height / 2), width, height, **style))


def _surroundings(shown: TightenedClass) -> tuple[float, float, float, float]:
    """Top, bottom, left and right edge of the pixel's surroundings, which hold the neighbors not far from it."""
    centers = shown.pixels.centers.numpy()
    height, width = shown.pixels.cell
    places = [place for neighbors in shown.nearest for place in neighbors.pixels]
    away = (abs(centers[places] - centers[shown.pixel]) / (height, width)).max(1)  # in cells
    near = away[away <= LARGEST_REACH]
    reach = max(SMALLEST_REACH, near.max() if near.size else 0) + 1
    half = reach * max(height, width)
    (top, bottom), (left, right) = (
        _window(center, half, side) for center, side in zip(centers[shown.pixel], shown.photo.shape[:2], strict=True)
    )
    return top, bottom, left, right


def _window(center: float, half: float, side: float) -> tuple[float, float]:
    """Edges of a window around a center, moved into the photo and cut where the photo is smaller."""
    low = max(0.0, min(center - half, side - 2 * half))
    return low, min(side, low + 2 * half)


def _faded(shown: TightenedClass, max_side: int = MAX_SIDE) -> NDArray:
    """The photo, light gray where it is not of the class: [h, w, 3] uint8."""
    gray = shown.photo.mean(2, keepdims=True)
    picture = np.where(shown.area[..., None], shown.photo, 0.45 * gray + 0.55 * 255)
    return downsample(picture, max_side).astype(np.uint8)


def _extent(shown: TightenedClass) -> tuple[int, int, int, int]:
    height, width = shown.photo.shape[:2]
    return (0, width, height, 0)
