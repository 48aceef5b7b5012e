"""Effect of a walk, or of another method, on each image of a data set: metrics and pictures for the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import chain

import numpy as np

from ..metrics import PixelResult
from ..viz.figures import figure_bytes, panel
from ..viz.html import Markup, table
from ..viz.html import image as html_image
from .results import EvaluationResult, ResultRow
from .runner import ImageResult, Sweep

SECTION_SIZE = 3  # images in each of the leading sections
ORDER = (
    "Photos are ordered by the sum of their ranks in AP and in FPR95, since AP alone is ruled by the photos with the "
    "smallest anomalies; {what} helps where one of the two gets better and none worse, and hurts where it is the "
    "other way round."
)
DPI, QUALITY = 88, 80  # make a panel 1144 pixels wide, of some 100 kB


@dataclass(frozen=True)
class ImageDelta:
    """Metrics of an image without and with the walk.

    Attributes:
        index: position of the image in the sweep.
        image: the image.
        metrics: its metrics without and with the walk.
    """

    index: int
    image: ImageResult
    metrics: tuple[PixelResult, PixelResult]

    @property
    def gain(self) -> float:
        """Change of AP by the walk, a fraction; NaN without an anomaly."""
        return self.metrics[1].ap - self.metrics[0].ap

    @property
    def fpr95_gain(self) -> float:
        """Fall of FPR95 by the walk, a fraction; NaN without an anomaly or without an inlier."""
        return self.metrics[0].fpr95 - self.metrics[1].fpr95

    def summary(self) -> str:
        """Return AP and FPR95 without and with the walk, in percent, as text."""
        before, after = self.metrics
        if not before.positives:
            return "no anomaly"
        ap = f"AP {percent(before.ap)} → {percent(after.ap)} ({self.gain_text()})"
        return f"{ap}, FPR95 {percent(before.fpr95)} → {percent(after.fpr95)}"

    def gain_text(self) -> str:
        """Return the gain in percentage points, with its sign."""
        return "-" if math.isnan(self.gain) else f"{100 * self.gain:+.2f}"


@dataclass(frozen=True)
class Comparison:
    """Two rows of a data set that show the effect of the walk, one without and one with; or those of two methods.

    Attributes:
        index: position of the data set in the result.
        sweep: the sweep behind the rows.
        before: the row without a walk, or of the method that others are compared with.
        after: the row "anchored", or else "with", or of several walks or methods the one of the highest AP.
        published: the row "with" beside the row "anchored"; None without the two.
    """

    index: int
    sweep: Sweep
    before: ResultRow
    after: ResultRow
    published: ResultRow | None = None

    @classmethod
    def from_result(cls, result: EvaluationResult, dataset: str) -> Comparison | None:
        """Compare the rows of a data set by the score of its first row; None without a row of either kind."""
        rows = [row for row in result.rows if row.dataset == dataset]
        rows = [row for row in rows if row.score == rows[0].score]
        plain = [row for row in rows if result.reference_row(row) is None]
        walked = [row for row in rows if result.reference_row(row) is not None]
        if not (plain and walked):
            return None
        by_label = {row.label: row for row in walked}
        best = max(walked, key=lambda row: (not math.isnan(row.result.ap), row.result.ap))
        after = by_label.get("anchored") or by_label.get("with") or best
        published = by_label.get("with") if after.label == "anchored" else None
        return cls(list(result.sweeps).index(dataset), result.sweeps[dataset], plain[0], after, published)

    @property
    def walk(self) -> str:
        """Name of the walk that is compared, such as "the walk" or "tau = 0.01"; or of the method."""
        return {"with": "the walk", "anchored": "the anchored walk"}.get(self.after.label, self.after.label)

    @property
    def of_methods(self) -> bool:
        """Whether two methods are compared, rather than a walk with none."""
        return self.after.settings is None

    @property
    def pair(self) -> str:
        """What is compared, such as "without and with the walk"."""
        return f"{self.before.label} and {self.walk}" if self.of_methods else f"without and with {self.walk}"

    def deltas(self) -> list[ImageDelta]:
        """Return the deltas of all images that are in the results, in order."""
        keys = [(row.label, row.score) for row in (self.before, self.after)]
        return [
            ImageDelta(index, image, (image.results[keys[0]], image.results[keys[1]]))
            for index, image in enumerate(self.sweep.images)
            if image.failure is None
        ]

    def leading(self) -> dict[str, list[ImageDelta]]:
        """Return the sections that lead the report: heading to images, the largest effect first.

        An image may be in two sections. :data:`ORDER` says how they are ordered.
        """
        measured = [delta for delta in self.deltas() if not math.isnan(delta.fpr95_gain)]
        by_gain = _by_ranks(measured, [(delta.gain, delta.fpr95_gain) for delta in measured])
        by_result = _by_ranks(measured, [(delta.metrics[1].ap, -delta.metrics[1].fpr95) for delta in measured])
        helped = [delta for delta in by_gain if min(delta.gain, delta.fpr95_gain) >= 0]
        hurt = [delta for delta in by_gain if max(delta.gain, delta.fpr95_gain) <= 0]
        best = by_result[::-1][:SECTION_SIZE]
        what = self.walk if self.of_methods else "the walk"
        return {
            f"Where {what} helps most": [delta for delta in helped[::-1] if delta not in hurt][:SECTION_SIZE],
            "Where it hurts most": [delta for delta in hurt if delta not in helped][:SECTION_SIZE],
            "Best photos": best,
            "Worst photos": [delta for delta in by_result if delta not in best][:SECTION_SIZE],
        }

    def panels(self, limit: int, progress: Callable[[list[ImageResult]], Iterable[ImageResult]]) -> dict[int, bytes]:
        """Draw the leading images first, then the others in order.

        Every process draws images of its own shard, and all processes get all pictures.

        Args:
            limit: largest number of pictures.
            progress: wraps the images that this process draws.

        Returns:
            Index of an image to its picture, a WebP file.
        """
        ordered = dict.fromkeys(delta.index for delta in chain(*self.leading().values(), self.deltas()))
        chosen = set(list(ordered)[:limit])
        shard = self.sweep.processes.shard(enumerate(self.sweep.images))
        drawn = iter([self._panel(image) for image in progress([image for index, image in shard if index in chosen])])
        pictures = self.sweep.processes.all_gather([next(drawn) if index in chosen else None for index, _ in shard])
        return {index: picture for index, picture in enumerate(pictures) if picture is not None}

    def sections(self, pictures: dict[int, bytes]) -> Iterator[str]:
        """Yield the HTML of the images, each picture once."""
        deltas = self.deltas()
        if deltas:
            yield f"<h3>Photos, {escape(self.before.score)}, {escape(self.pair)}</h3>"
            yield f"<p>{escape(ORDER.format(what=self.walk if self.of_methods else 'the walk'))}</p>"
            yield f"<details open><summary>All {len(deltas)}, in percent</summary>"
            yield f"{self._table(deltas, pictures)}</details>"
        shown: set[int] = set()
        for heading, section in self.leading().items():
            if section:
                yield f"<h3>{escape(heading)}</h3>"
            for delta in section:
                if delta.index in pictures and delta.index not in shown:
                    shown.add(delta.index)
                    yield self._figure(delta, pictures[delta.index])
                else:
                    yield f"<p>{self._name(delta, pictures)}: {escape(delta.summary())}</p>"
        others = [delta for delta in deltas if delta.index in pictures.keys() - shown]
        if shown and others:
            yield "<h3>The other photos</h3>"
        for delta in others:
            summary = f"<summary>{escape(delta.image.frame.id)}: {escape(delta.summary())}</summary>"
            yield f"<details>{summary}{self._figure(delta, pictures[delta.index])}</details>"

    def _panel(self, image: ImageResult) -> bytes:
        pixels, labels = image.frame.read()
        maps = [self.sweep.score_map(image, row.label, row.score) for row in (self.before, self.after)]
        names = (self.before.label, self.walk) if self.of_methods else ("Without the walk", f"With {self.walk}")
        titles = ("Photo", *names, "Difference")
        published, own_weights = None, None
        if self.published is not None:
            published = self.sweep.score_map(image, self.published.label, self.published.score)
            own_weights = self.sweep.own_weights(image, self.after.label)
        figure = panel(pixels, *maps, labels=labels, titles=titles, published=published, own_weights=own_weights)
        figure.set_dpi(DPI)
        return figure_bytes(figure, "webp", quality=QUALITY)

    def _table(self, deltas: list[ImageDelta], pictures: dict[int, bytes]) -> str:
        shown = [row for row in (self.before, self.published, self.after) if row is not None]
        labels = [row.label for row in shown]
        anchored = self.published is not None
        head = ["photo", *(f"AP {label}" for label in labels), "change", *(f"FPR95 {label}" for label in labels)]
        rows = []
        for delta in deltas:
            results = [delta.image.results[row.label, row.score] for row in shown]
            ap, fpr95 = ([percent(getattr(result, name)) for result in results] for name in ("ap", "fpr95"))
            share = [percent(delta.image.anchored[self.after.label])] if anchored else []
            rows.append((self._name(delta, pictures), *ap, delta.gain_text(), *fpr95, *share))
        return table([*head, "anchored pixels"] if anchored else head, rows)

    def _figure(self, delta: ImageDelta, picture: bytes) -> str:
        frame_id = delta.image.frame.id
        description = f"{frame_id}: photo, anomaly score {self.pair}, and their difference"
        caption = f"<figcaption><b>{escape(frame_id)}</b>: {escape(delta.summary())}</figcaption>"
        return f'<figure id="{self._anchor(delta)}">{caption}{html_image(picture, description, "webp")}</figure>'

    def _name(self, delta: ImageDelta, pictures: dict[int, bytes]) -> Markup:
        """Return the image's id, as a link to its picture if there is one."""
        name = escape(delta.image.frame.id)
        return Markup(f'<a href="#{self._anchor(delta)}">{name}</a>' if delta.index in pictures else name)

    def _anchor(self, delta: ImageDelta) -> str:
        return f"photo-{self.index}-{delta.index}"


def _by_ranks(deltas: list[ImageDelta], figures: list[tuple[float, float]]) -> list[ImageDelta]:
    """Sort images by the sum of their ranks in two figures each, ascending."""
    columns = np.array(figures).reshape(-1, 2).T
    ranks = sum(np.searchsorted(np.sort(column), column) for column in columns)
    return [deltas[index] for index in np.argsort(ranks, kind="stable")]


def percent(fraction: float) -> str:
    """Format a fraction in percent with two decimals, as in the tables; "-" for NaN."""
    return "-" if math.isnan(fraction) else f"{100 * fraction:.2f}"
