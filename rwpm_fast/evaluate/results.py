"""Result of an evaluation: rows of metrics with the published ones, as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..io.markdown import markdown_table
from ..metrics import BinnedPixelResult, ComponentResult, InstanceResult, PixelResult
from ..metrics.resampling import SAMPLES
from .distributed import SINGLE_PROCESS, Processes
from .paired import RESAMPLES, Paired, pooled_changes
from .published import PREDECESSOR
from .runner import Sweep

TOOLKIT = ("SMIYC AuROC", "SMIYC AP", "SMIYC FPR95")  # binned, as SegmentMeIfYouCan's toolkit prints them
COMPONENTS = ("sIoU", "PPV", "mean F1", "object AP", "object AP50")  # of components, and OoDIS's of objects
METRICS = ("AuROC", PREDECESSOR, "AP", "FPR95", *TOOLKIT, *COMPONENTS, "FPS", "walk alone, FPS")

_PAIRED = (
    *(f"mean {name} {which}" for name in ("AuROC", "AP", "FPR95") for which in ("without", "with")),
    *("AP better", "AP worse", "AP tied", "mean AP change", "mean AP change, low", "mean AP change, high"),
    *(f"pooled {name} change{end}" for name in ("AP", "FPR95") for end in ("", ", low", ", high")),
)


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
        binned: pixel metrics as SegmentMeIfYouCan's toolkit computes them; None without component metrics.
        instances: average precision of objects; None without component metrics.
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
    binned: BinnedPixelResult | None = None
    instances: InstanceResult | None = None

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name in :data:`METRICS`, in percent and frames per second."""
        metrics = {"AuROC": 100 * self.result.auroc, "AP": 100 * self.result.ap, "FPR95": 100 * self.result.fpr95}
        if self.binned is not None:
            binned = (self.binned.auroc, self.binned.ap, self.binned.fpr95)
            metrics |= {name: 100 * value for name, value in zip(TOOLKIT, binned, strict=True)}
        if self.components is not None:
            of_components = {"sIoU": self.components.siou, "PPV": self.components.ppv, "mean F1": self.components.f1}
            metrics |= {name: 100 * value for name, value in of_components.items()}
        if self.instances is not None:
            metrics |= {"object AP": 100 * self.instances.ap, "object AP50": 100 * self.instances.ap50}
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
            **({} if self.binned is None else {"smiyc": vars(self.binned)}),
            **({} if self.components is None else {"components": self.components.as_dict()}),
            **({} if self.instances is None else {"instances": self.instances.as_dict()}),
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
        reference: label of the rows that the others of the same data set and score are compared with; None for those
            without a walk.
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
    reference: str | None = None

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
        against = "against_without" if self.reference is None else "against_reference"
        return {
            "title": self.title,
            "command": self.command,
            "settings": dict(self.settings),
            "source": self.source,
            "notes": list(self.notes),
            **({} if self.reference is None else {"reference": self.reference}),
            "lines": [
                {**row.as_dict(), against: _dict(self.paired(row)), "by_photo": self._by_photo(row)}
                for row in self.rows
            ],
            "failures": self.failures,
        }

    def reference_row(self, row: ResultRow) -> ResultRow | None:
        """Return the row that a row is compared with, of the same data set and score; None for such a row itself."""

        def is_reference(other: ResultRow) -> bool:
            return other.settings is None if self.reference is None else other.label == self.reference

        rows = [other for other in self.rows if (other.dataset, other.score) == (row.dataset, row.score)]
        return None if is_reference(row) else next(filter(is_reference, rows), None)

    def paired(self, row: ResultRow) -> Paired | None:
        """Compare a row photo by photo with its :meth:`reference_row`, and the pool of all photos.

        Args:
            row: one of ``rows``.

        Returns:
            The comparison; None for a row without a walk, or if there is no such row to compare with, or no photo has
            both anomalies and inliers.
        """
        reference = self.reference_row(row)
        if reference is None:
            return None
        both = (reference, row)
        paired = Paired.from_results(*(list(self.photo_results(of).values()) for of in both))
        before, after = (self.sweeps[of.dataset].counts.get((of.label, of.score)) for of in both)
        if paired is None or before is None or after is None:
            return paired
        ap, fpr95 = pooled_changes((reference.result, row.result), (before, after))
        return replace(paired, pooled_ap=ap, pooled_fpr95=fpr95)

    def photo_results(self, row: ResultRow) -> dict[str, PixelResult]:
        """Return the pixel metrics of each photo of a row by itself, by the id of its frame."""
        key = row.label, row.score
        return {image.frame.id: image.results[key] for image in self.sweeps[row.dataset].used}

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
        """Return the table as Markdown, with its title, a list of what each walk does by photo, and footnotes."""
        parts = [self.title, markdown_table(self.header(), self.cells())]
        if paired := self.paired_cells():
            parts += [self.by_photo(), "\n".join(self._paired_line(cells) for cells in paired)]
        return "\n\n".join([*parts, *self.footnotes()]) + "\n"

    def by_photo(self) -> str:
        """Say what :meth:`paired_cells` are."""
        which = "without → with the walk" if self.reference is None else f"{self.reference} → the other method"
        pooled = (
            f"; the change of AP and FPR95 of the pooled pixels, with theirs ({SAMPLES} samples)"
            if self._resampled()
            else ""
        )
        return (
            f"By photo, of those with both anomalies and inliers: means over photos {which}; on how many AP is better, "
            "worse, or tied within 0.01; the mean change of AP and its 95 % interval in a paired bootstrap "
            f"({RESAMPLES} samples of the photos with replacement){pooled}. An interval that holds zero shows no "
            "difference."
        )

    def _resampled(self) -> bool:
        """Whether changes of pooled pixels are known."""
        return any(sweep.counts for sweep in self.sweeps.values())

    def _paired_line(self, cells: Sequence[str]) -> str:
        """Format a row of :meth:`paired_cells` as an item of a list: what it is of, and its figures by name."""
        header = self.paired_header()
        names = header.index("score") + 1
        figures = [f"{name} {cell}" for name, cell in zip(header[names:], cells[names:], strict=True)]
        return f"- {', '.join(cells[:names])}: {', '.join(figures)}"

    def paired_header(self) -> list[str]:
        """Return the names of the columns of :meth:`paired_cells`."""
        dataset = ["data set"] if len(self.sweeps) > 1 else []
        of_ap = ["AP better", "worse", "tied", "mean AP change", "95 % interval"]
        pooled = ["pooled AP change", "pooled FPR95 change"] if self._resampled() else []
        return [*dataset, self.heading, "score", "mean AuROC", "mean AP", "mean FPR95", *of_ap, *pooled]

    def paired_cells(self) -> list[list[str]]:
        """Return the rows that are compared with others as text; :meth:`by_photo` says what they are."""
        table = []
        for row in self.rows:
            if paired := self.paired(row):
                dataset = [row.dataset] if len(self.sweeps) > 1 else []
                metrics = (paired.auroc, paired.ap, paired.fpr95)
                means = [f"{_number(100 * metric.without)} → {_number(100 * metric.walked)}" for metric in metrics]
                ap = paired.ap
                change = [f"{100 * ap.change:+.2f}", ap.interval]
                counts = map(str, (ap.better, ap.worse, ap.tied))
                of_pool = (paired.pooled_ap, paired.pooled_fpr95) if self._resampled() else ()
                pooled = ["-" if of is None else of.text() for of in of_pool]
                table.append([*dataset, row.label, row.score, *means, *counts, *change, *pooled])
        return table

    def footnotes(self) -> list[str]:
        """Return the sentences below the table: source of the published figures, if there are any, and the notes."""
        source = [f"Published: {self.source}, for orientation."] if self._published() else []
        return [*source, *self.notes]

    def csv(self) -> str:
        """Return the metrics as CSV, unrounded, with the walk's settings in columns of their own.

        The last columns compare the row with its reference, such as the one without a walk; see :meth:`paired`.
        """
        settings = list(dict.fromkeys(name for row in self.rows for name in row.settings or ()))
        published = self._published()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        ours = [name for name in METRICS if any(name in row.metrics() for row in self.rows)]
        theirs = [f"published {name}" for name in published]
        writer.writerow(["data set", "label", "score", *settings, *ours, *theirs, "photos", *_PAIRED])
        for row in self.rows:
            metrics, walk = row.metrics(), row.settings or {}
            writer.writerow(
                [row.dataset, row.label, row.score, *(walk.get(name, "") for name in settings)]
                + [metrics.get(name, "") for name in ours]
                + [row.published.get(name, "") for name in published]
                + [row.result.images, *_paired_figures(self.paired(row))]
            )
        return text.getvalue()

    def photos_csv(self) -> str:
        """Return the metrics of every photo by itself as CSV, in percent, unrounded: a line per photo and row."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["data set", "label", "score", "photo", "AuROC", "AP", "FPR95", "positives", "negatives"])
        for row in self.rows:
            for photo, result in self.photo_results(row).items():
                percents = [100 * result.auroc, 100 * result.ap, 100 * result.fpr95]
                counts = [result.positives, result.negatives]
                writer.writerow([row.dataset, row.label, row.score, photo, *percents, *counts])
        return text.getvalue()

    def _by_photo(self, row: ResultRow) -> list[dict[str, Any]]:
        names = ("auroc", "ap", "fpr95", "positives", "negatives")
        results = []
        for image in self.sweeps[row.dataset].used:
            result = image.results[row.label, row.score]
            anchored = {"anchored": image.anchored[row.label]} if row.label in image.anchored else {}
            results.append({"photo": image.frame.id, **{name: getattr(result, name) for name in names}, **anchored})
        return results

    def _published(self) -> list[str]:
        return [name for name in METRICS if any(name in row.published for row in self.rows)]


def _dict(paired: Paired | None) -> dict[str, Any] | None:
    return None if paired is None else paired.as_dict()


def _paired_figures(paired: Paired | None) -> list[Any]:
    """Return the figures of the columns ``_PAIRED``, in percent; empty ones without a comparison."""
    if paired is None:
        return [""] * len(_PAIRED)
    metrics, ap = (paired.auroc, paired.ap, paired.fpr95), paired.ap
    means = [100 * mean for metric in metrics for mean in (metric.without, metric.walked)]
    pooled: list[Any] = []
    for of in (paired.pooled_ap, paired.pooled_fpr95):
        pooled += [""] * 3 if of is None else [100 * of.change, 100 * of.low, 100 * of.high]
    return [*means, ap.better, ap.worse, ap.tied, 100 * ap.change, 100 * ap.low, 100 * ap.high, *pooled]


def _number(figure: float | None) -> str:
    return "-" if figure is None or figure != figure else f"{figure:.2f}"
