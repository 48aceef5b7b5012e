"""What a walk did to the photos of a data set, one by one: figures and pictures for the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import chain

from ..metrics import PixelResult
from ..viz.figures import figure_bytes, panel
from ..viz.html import Markup, image, table
from .results import Line, Outcome
from .runner import Photo, Sweep

MOST = 3  # photos in each of the sections that lead
DPI, QUALITY = 88, 80  # a panel 1144 pixels wide, of some 100 kB


@dataclass(frozen=True)
class Change:
    """A photo without and with the walk.

    Attributes:
        number: its place in the sweep.
        photo: the photo.
        before: its metrics without the walk; None where photos were not measured one by one.
        after: with the walk.
    """

    number: int
    photo: Photo
    before: PixelResult | None
    after: PixelResult | None

    @property
    def gain(self) -> float:
        """What the walk added to AP, a fraction; NaN without metrics or without an anomaly."""
        return self.after.ap - self.before.ap if self.before and self.after else math.nan

    def told(self) -> str:
        """AP and FPR95 before and after, in percent."""
        if not (self.before and self.after):
            return "not measured by itself"
        if not self.before.positives:
            return "no anomaly"
        before, after = self.before, self.after
        ap = f"AP {percent(before.ap)} → {percent(after.ap)} ({self.change()})"
        return f"{ap}, FPR95 {percent(before.fpr95)} → {percent(after.fpr95)}"

    def change(self) -> str:
        """The gain in percentage points, with its sign."""
        return "-" if math.isnan(self.gain) else f"{100 * self.gain:+.2f}"


@dataclass(frozen=True)
class Comparison:
    """Two lines of a data set that show what the walk did: one without a walk, one with.

    Attributes:
        number: place of the data set in the outcome.
        sweep: behind the lines.
        before: the line without a walk.
        after: the line "with", or of several walks that of the highest AP.
    """

    number: int
    sweep: Sweep
    before: Line
    after: Line

    @classmethod
    def of(cls, outcome: Outcome, dataset: str) -> Comparison | None:
        """The comparison of a data set by the score of its first line; None without a line of either kind."""
        lines = [line for line in outcome.lines if line.dataset == dataset]
        lines = [line for line in lines if line.score == lines[0].score]
        plain = [line for line in lines if line.settings is None]
        walked = [line for line in lines if line.settings is not None]
        if not (plain and walked):
            return None
        best = max(walked, key=lambda line: (line.label == "with", not math.isnan(line.result.ap), line.result.ap))
        return cls(list(outcome.sweeps).index(dataset), outcome.sweeps[dataset], plain[0], best)

    @property
    def walk(self) -> str:
        """The walk that is compared, such as "the walk" or "tau = 0.01"."""
        return "the walk" if self.after.label == "with" else self.after.label

    def changes(self) -> list[Change]:
        """Every photo that is in the results, in order."""
        keys = [(line.label, line.score) for line in (self.before, self.after)]
        return [
            Change(number, photo, *(photo.results.get(key) for key in keys))
            for number, photo in enumerate(self.sweep.photos)
            if photo.failure is None
        ]

    def leading(self) -> dict[str, list[Change]]:
        """Heading to the photos that tell most, the most telling first; a photo may come twice."""
        measured = [change for change in self.changes() if not math.isnan(change.gain)]
        by_gain = sorted(measured, key=lambda change: change.gain)
        by_ap = sorted(measured, key=lambda change: change.after.ap)
        best = by_ap[::-1][:MOST]
        return {
            "Where the walk helps most": [change for change in by_gain[::-1] if change.gain > 0][:MOST],
            "Where it hurts most": [change for change in by_gain if change.gain < 0][:MOST],
            "Best photos": best,
            "Worst photos": [change for change in by_ap if change not in best][:MOST],
        }

    def panels(self, most: int, progress: Callable[[list[Photo]], Iterable[Photo]]) -> dict[int, bytes]:
        """Number of a photo to its picture, a WebP file: the leading photos first, then the others in order.

        Every process draws those whose score maps it has, and all get all.
        """
        ordered = dict.fromkeys(change.number for change in chain(*self.leading().values(), self.changes()))
        chosen = set(list(ordered)[:most])
        own = self.sweep.processes.share(enumerate(self.sweep.photos))
        drawn = iter([self._panel(photo) for photo in progress([photo for number, photo in own if number in chosen])])
        pictures = self.sweep.processes.collect([next(drawn) if number in chosen else None for number, _ in own])
        return {number: picture for number, picture in enumerate(pictures) if picture is not None}

    def sections(self, pictures: dict[int, bytes]) -> Iterator[str]:
        """HTML of the photos, each of the pictures once."""
        changes = self.changes()
        measured = [change for change in changes if change.before and change.after]
        if measured or pictures:
            yield f"<h3>Photos, {escape(self.before.score)}, without and with {escape(self.walk)}</h3>"
        if measured:
            yield f"<details open><summary>All {len(measured)}, in percent</summary>"
            yield f"{self._table(measured, pictures)}</details>"
        shown: set[int] = set()
        for heading, some in self.leading().items():
            if some:
                yield f"<h3>{heading}</h3>"
            for change in some:
                if change.number in pictures and change.number not in shown:
                    shown.add(change.number)
                    yield self._figure(change, pictures[change.number])
                else:
                    yield f"<p>{self._name(change, pictures)}: {escape(change.told())}</p>"
        others = [change for change in changes if change.number in pictures.keys() - shown]
        if shown and others:
            yield "<h3>The other photos</h3>"
        for change in others:
            summary = f"<summary>{escape(change.photo.frame.id)}: {escape(change.told())}</summary>"
            yield f"<details>{summary}{self._figure(change, pictures[change.number])}</details>"

    def _panel(self, photo: Photo) -> bytes:
        pixels, labels = photo.frame.read()
        maps = [self.sweep.score_map(photo, line.label, line.score) for line in (self.before, self.after)]
        titles = ("Photo", "Without the walk", f"With {self.walk}", "Difference")
        figure = panel(pixels, *maps, labels=labels, titles=titles)
        figure.set_dpi(DPI)
        return figure_bytes(figure, "webp", quality=QUALITY)

    def _table(self, changes: list[Change], pictures: dict[int, bytes]) -> str:
        head = ["photo", "AP without", "AP with", "change", "FPR95 without", "FPR95 with"]
        rows = []
        for change in changes:
            before, after = change.before, change.after
            ap, fpr95 = (percent(before.ap), percent(after.ap)), (percent(before.fpr95), percent(after.fpr95))
            rows.append((self._name(change, pictures), *ap, change.change(), *fpr95))
        return table(head, rows)

    def _figure(self, change: Change, picture: bytes) -> str:
        frame_id = change.photo.frame.id
        description = f"{frame_id}: photo, anomaly score without and with {self.walk}, and their difference"
        caption = f"<figcaption><b>{escape(frame_id)}</b>: {escape(change.told())}</figcaption>"
        return f'<figure id="{self._anchor(change)}">{caption}{image(picture, description, "webp")}</figure>'

    def _name(self, change: Change, pictures: dict[int, bytes]) -> Markup:
        """The photo's id, a link to its picture where there is one."""
        name = escape(change.photo.frame.id)
        return Markup(f'<a href="#{self._anchor(change)}">{name}</a>' if change.number in pictures else name)

    def _anchor(self, change: Change) -> str:
        return f"photo-{self.number}-{change.number}"


def percent(fraction: float) -> str:
    """A fraction in percent with two decimals, as in the tables; "-" for NaN."""
    return "-" if math.isnan(fraction) else f"{100 * fraction:.2f}"
