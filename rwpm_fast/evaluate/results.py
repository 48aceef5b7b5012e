"""What an evaluation found, as lines beside the published figures: JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..metrics import ComponentResult, PixelResult
from .runner import Sweep

FIGURES = ("AuROC", "AP", "FPR95", "sIoU", "PPV", "mean F1", "FPS", "walk alone, FPS")


@dataclass(frozen=True)
class Line:
    """A score under a walk on a data set.

    Attributes:
        dataset: title of the data set.
        label: what the walk is called, unique in the data set.
        score: name in ``rwpm_fast.scores``.
        settings: of the walk; None without one.
        result: pixel metrics.
        components: component metrics, where they were asked for.
        network_seconds: time of the network at the median photo.
        walk_seconds: time of the walk at the median photo, 0 without one.
        fps: frames a second of network and walk together at the median photo.
        published: figures of the papers, named as in :data:`FIGURES`, in percent and frames a second.
    """

    dataset: str
    label: str
    score: str
    settings: Mapping[str, Any] | None
    result: PixelResult
    components: ComponentResult | None
    network_seconds: float
    walk_seconds: float
    fps: float
    published: Mapping[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Our figures by name, in percent and frames a second."""
        figures = {"AuROC": 100 * self.result.auroc, "AP": 100 * self.result.ap, "FPR95": 100 * self.result.fpr95}
        if self.components is not None:
            of_components = {"sIoU": self.components.siou, "PPV": self.components.ppv, "mean F1": self.components.f1}
            figures |= {name: 100 * figure for name, figure in of_components.items()}
        figures["FPS"] = self.fps
        figures["walk alone, FPS"] = 1 / self.walk_seconds if self.walk_seconds else float("nan")
        return figures

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form: fractions, seconds, published figures as printed."""
        return {
            "dataset": self.dataset,
            "label": self.label,
            "score": self.score,
            "walk": self.settings,
            **vars(self.result),
            **({} if self.components is None else {"components": self.components.as_dict()}),
            "network_seconds_median": self.network_seconds,
            "walk_seconds_median": self.walk_seconds,
            "fps": self.fps,
            "published": dict(self.published),
        }


@dataclass(frozen=True)
class Outcome:
    """All that an evaluation or a table found.

    Attributes:
        title: what was evaluated.
        heading: of the column of labels.
        columns: names in :data:`FIGURES` to show.
        command: what to type to get it again.
        settings: network, data, threads and more, JSON-ready.
        lines: in the order to show.
        sweeps: title of a data set to the sweep behind its lines; a line's label and score are its key there.
        source: network and data behind the published figures, which is told where there are any.
        notes: sentences that belong under the table, such as data sets that were not there.
    """

    title: str
    heading: str
    columns: Sequence[str]
    command: str
    settings: Mapping[str, Any]
    lines: Sequence[Line]
    sweeps: Mapping[str, Sweep]
    source: str = ""
    notes: Sequence[str] = ()

    @property
    def failures(self) -> dict[str, str]:
        """Photos that could not be used, with the reason."""
        return {str(path): why for sweep in self.sweeps.values() for path, why in sweep.failures.items()}

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "title": self.title,
            "command": self.command,
            "settings": dict(self.settings),
            "source": self.source,
            "notes": list(self.notes),
            "lines": [line.as_dict() for line in self.lines],
            "failures": self.failures,
        }

    def header(self) -> list[str]:
        """Names of the columns of :meth:`rows`."""
        some = ["data set"] if len(self.sweeps) > 1 else []
        return [*some, self.heading, "score", *self.columns, *(f"published {name}" for name in self._published())]

    def rows(self) -> list[list[str]]:
        """The table as text, our figures before the published ones; "-" where there is none."""
        published = self._published()
        rows = []
        for line in self.lines:
            figures = line.figures()
            numbers = [figures.get(name) for name in self.columns] + [line.published.get(name) for name in published]
            some = [line.dataset] if len(self.sweeps) > 1 else []
            rows.append([*some, line.label, line.score, *map(_number, numbers)])
        return rows

    def markdown(self) -> str:
        """The table, with its title, source and notes."""
        header = self.header()
        lines = [header, ["---"] * len(header), *self.rows()]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return "\n\n".join([self.title, table, *self.remarks()]) + "\n"

    def remarks(self) -> list[str]:
        """Sentences under the table: where the published figures are from, if any are shown, and the notes."""
        source = [f"Published: {self.source}, for orientation."] if self._published() else []
        return [*source, *self.notes]

    def csv(self) -> str:
        """One line of figures a row, by column name; walk settings in columns of their own."""
        settings = list(dict.fromkeys(name for line in self.lines for name in line.settings or ()))
        published = self._published()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        ours = [name for name in FIGURES if any(name in line.figures() for line in self.lines)]
        writer.writerow(
            ["data set", "label", "score", *settings, *ours, *(f"published {name}" for name in published), "photos"]
        )
        for line in self.lines:
            figures, walk = line.figures(), line.settings or {}
            writer.writerow(
                [line.dataset, line.label, line.score, *(walk.get(name, "") for name in settings)]
                + [figures.get(name, "") for name in ours]
                + [line.published.get(name, "") for name in published]
                + [line.result.images]
            )
        return text.getvalue()

    def _published(self) -> list[str]:
        return [name for name in FIGURES if any(name in line.published for line in self.lines)]


def _number(figure: float | None) -> str:
    return "-" if figure is None or figure != figure else f"{figure:.2f}"
