"""Result of an evaluation: rows of metrics with the published ones, as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..io.markdown import markdown_table
from ..metrics import ComponentResult, PixelResult
from .distributed import SINGLE_PROCESS, Processes
from .runner import Sweep

METRICS = ("AuROC", "AP", "FPR95", "sIoU", "PPV", "mean F1", "FPS", "walk alone, FPS")


@dataclass(frozen=True)
class ResultRow:
    """Metrics of a score under a walk on a data set.

    Attributes:
        dataset: title of the data set.
        label: name of the walk, unique in the data set.
        score: name in ``rwpm_fast.scores``.
        settings: settings of the walk; None without one.
        result: pixel metrics.
        components: component metrics; None if they were not requested.
        network_seconds: time of the network at the median image.
        walk_seconds: time of the walk at the median image, 0 without one.
        fps: frames per second of network and walk together at the median image.
        published: figures of the papers by name in :data:`METRICS`, in percent and frames per second.
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

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name in :data:`METRICS`, in percent and frames per second."""
        metrics = {"AuROC": 100 * self.result.auroc, "AP": 100 * self.result.ap, "FPR95": 100 * self.result.fpr95}
        if self.components is not None:
            of_components = {"sIoU": self.components.siou, "PPV": self.components.ppv, "mean F1": self.components.f1}
            metrics |= {name: 100 * value for name, value in of_components.items()}
        metrics["FPS"] = self.fps
        metrics["walk alone, FPS"] = 1 / self.walk_seconds if self.walk_seconds else float("nan")
        return metrics

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form: fractions, seconds, published figures as printed."""
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
class EvaluationResult:
    """Result of an evaluation or of a table of the papers.

    Attributes:
        title: what was evaluated.
        heading: heading of the column of labels.
        columns: names in :data:`METRICS` to show.
        command: command line that repeats the evaluation; empty if there is none.
        settings: network, data, threads and more, JSON-ready.
        rows: in the order to show.
        sweeps: title of a data set to the sweep behind its rows; label and score of a row are its key there.
        source: network and data behind the published figures, shown if there are any.
        notes: sentences for below the table, such as data sets that are missing.
    """

    title: str
    heading: str
    columns: Sequence[str]
    command: str
    settings: Mapping[str, Any]
    rows: Sequence[ResultRow]
    sweeps: Mapping[str, Sweep]
    source: str = ""
    notes: Sequence[str] = ()

    @property
    def processes(self) -> Processes:
        """The processes that share the images."""
        return next((sweep.processes for sweep in self.sweeps.values()), SINGLE_PROCESS)

    @property
    def failures(self) -> dict[str, str]:
        """Photos that could not be used, with the reason."""
        return {str(path): why for sweep in self.sweeps.values() for path, why in sweep.failures.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {
            "title": self.title,
            "command": self.command,
            "settings": dict(self.settings),
            "source": self.source,
            "notes": list(self.notes),
            "lines": [row.as_dict() for row in self.rows],
            "failures": self.failures,
        }

    def header(self) -> list[str]:
        """Return the names of the columns of :meth:`cells`."""
        dataset = ["data set"] if len(self.sweeps) > 1 else []
        return [*dataset, self.heading, "score", *self.columns, *(f"published {name}" for name in self._published())]

    def cells(self) -> list[list[str]]:
        """Return the table as text, our metrics before the published ones; "-" where there is none."""
        published = self._published()
        table = []
        for row in self.rows:
            metrics = row.metrics()
            numbers = [metrics.get(name) for name in self.columns] + [row.published.get(name) for name in published]
            dataset = [row.dataset] if len(self.sweeps) > 1 else []
            table.append([*dataset, row.label, row.score, *map(_number, numbers)])
        return table

    def markdown(self) -> str:
        """Return the table as Markdown, with its title and footnotes."""
        return "\n\n".join([self.title, markdown_table(self.header(), self.cells()), *self.footnotes()]) + "\n"

    def footnotes(self) -> list[str]:
        """Return the sentences below the table: source of the published figures, if there are any, and the notes."""
        source = [f"Published: {self.source}, for orientation."] if self._published() else []
        return [*source, *self.notes]

    def csv(self) -> str:
        """Return the metrics as CSV, unrounded, with the walk's settings in columns of their own."""
        settings = list(dict.fromkeys(name for row in self.rows for name in row.settings or ()))
        published = self._published()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        ours = [name for name in METRICS if any(name in row.metrics() for row in self.rows)]
        writer.writerow(
            ["data set", "label", "score", *settings, *ours, *(f"published {name}" for name in published), "photos"]
        )
        for row in self.rows:
            metrics, walk = row.metrics(), row.settings or {}
            writer.writerow(
                [row.dataset, row.label, row.score, *(walk.get(name, "") for name in settings)]
                + [metrics.get(name, "") for name in ours]
                + [row.published.get(name, "") for name in published]
                + [row.result.images]
            )
        return text.getvalue()

    def _published(self) -> list[str]:
        return [name for name in METRICS if any(name in row.published for row in self.rows)]


def _number(figure: float | None) -> str:
    return "-" if figure is None or figure != figure else f"{figure:.2f}"
