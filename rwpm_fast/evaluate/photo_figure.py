"""Figure of an evaluation's photos with their ground truth and scores side by side, from successes to failures.

In the manner of the appendix of SynBoost (A.5): void pixels are gray, and failure cases come last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..viz.grid import GridRow, grid_row, photo_grid
from .per_image import percent
from .published import TITLES
from .results import EvaluationResult
from .runner import ImageResult, Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PHOTOS = 8
LEADING = ("entropy", "resynthesis")  # scores whose columns come first


@dataclass(frozen=True)
class _Column:
    """A score of a sweep."""

    title: str
    sweep: Sweep
    label: str
    score: str


@dataclass(frozen=True)
class _Photo:
    """A photo by its place in a group of sweeps, and its AP by the last column."""

    group: int
    index: int
    ap: float


def draw_photos(
    result: EvaluationResult,
    *,
    limit: int | None = None,
    progress: Callable[[Sequence[ImageResult]], Iterable[ImageResult]] = iter,
) -> Figure | None:
    """Draw photos of an evaluation, a row each: photo, ground truth, and its scores.

    Of several methods that were evaluated on the same photos, such as those of table 4, the scores stand side by side.
    Where the same photos have labels by several rules, as Lost & Found has there, they are shown by the first.
    Photos are ordered by their AP by the last column, the best first; if there are more than ``limit``, they are taken
    at equal distances in this order, best and worst among them. Photos without an anomaly are left out.

    Args:
        result: result of an evaluation; every process that shares it calls this.
        limit: largest number of photos; None for 8.
        progress: wraps the images that this process reads.

    Returns:
        The figure in the first process, None in the others.

    Raises:
        ValueError: ``limit`` is below 1, no photo has an anomaly, or data sets do not have the same columns.
        OSError: a photo or its score map can no longer be read.
        ImportError: matplotlib is not installed.
    """
    limit = MAX_PHOTOS if limit is None else limit
    if limit < 1:
        raise ValueError(f"limit: expected 1 or more, got {limit}")
    groups = _columns(result)
    titles = [column.title for column in groups[0]]
    for columns in groups[1:]:
        if [column.title for column in columns] != titles:
            raise ValueError("result: expected the same scores of all data sets, got others; evaluate them one by one")
    photos = [photo for group, columns in enumerate(groups) for photo in _photos(group, columns)]
    if not photos:
        raise ValueError("result: expected a photo with an anomaly and an inlier, got none")
    photos.sort(key=lambda photo: -photo.ap)
    chosen = [photos[place] for place in _spread(len(photos), limit)]
    rows = _read(chosen, groups, progress)
    return photo_grid(rows, titles) if result.processes.first else None


def _columns(result: EvaluationResult) -> list[list[_Column]]:
    """Return the columns of each group of sweeps that share their photos."""
    groups: dict[tuple[str, ...], dict[str, _Column]] = {}
    for row in result.rows:
        sweep = result.sweeps[row.dataset]
        name = TITLES.get(row.score, row.score)
        title = name if row.settings is None else f"{name}, {row.label}"
        columns = groups.setdefault(tuple(str(image.frame.photo) for image in sweep.images), {})
        columns.setdefault(title, _Column(title, sweep, row.label, row.score))
    place = {score: number for number, score in enumerate(LEADING)}
    return [
        sorted(columns.values(), key=lambda column: place.get(column.score, len(place))) for columns in groups.values()
    ]


def _photos(group: int, columns: Sequence[_Column]) -> list[_Photo]:
    """Return the photos of a group that all of its sweeps used, and that have an AP."""
    last = columns[-1]
    photos = []
    for index, image in enumerate(last.sweep.images):
        if all(column.sweep.images[index].failure is None for column in columns):
            found = image.results[last.label, last.score]
            if not math.isnan(found.auroc):
                photos.append(_Photo(group, index, found.ap))
    return photos


def _spread(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` places of ``count``, at equal distances, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return [round(step * (count - 1) / max(limit - 1, 1)) for step in range(limit)]


def _read(
    photos: Sequence[_Photo],
    groups: Sequence[Sequence[_Column]],
    progress: Callable[[Sequence[ImageResult]], Iterable[ImageResult]],
) -> list[GridRow]:
    """Make the rows of photos, each by the process that has its score maps."""
    rows: dict[tuple[int, int], GridRow] = {}
    for group, columns in enumerate(groups):
        chosen = {photo.index: photo for photo in photos if photo.group == group}
        sweep = columns[-1].sweep
        shard = sweep.processes.shard(enumerate(sweep.images))
        own = [(index, image) for index, image in shard if index in chosen]
        images = progress([image for _, image in own])
        made = {index: _row(chosen[index], columns, image) for (index, _), image in zip(own, images, strict=True)}
        gathered = sweep.processes.all_gather([made.get(index) for index, _ in shard])
        rows |= {(group, index): row for index, row in enumerate(gathered) if row is not None}
    return [rows[photo.group, photo.index] for photo in photos]


def _row(photo: _Photo, columns: Sequence[_Column], image: ImageResult) -> GridRow:
    pixels, labels = image.frame.read()
    scores = [
        column.sweep.score_map(column.sweep.images[photo.index], column.label, column.score) for column in columns
    ]
    return grid_row(f"AP {percent(photo.ap)} %, {image.frame.id}", pixels, labels, scores)
