"""The demo's page: one HTML file that needs nothing else, neither scripts nor a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from numpy.typing import ArrayLike

from ..metrics import Curve, PixelMetrics
from ..viz.figures import figure_bytes, panel, roc_pr_figure
from ..viz.html import image, page, table


@dataclass(frozen=True)
class Accuracy:
    """Pixel metrics, all in [0, 1]."""

    average_precision: float
    auroc: float
    fpr95: float


@dataclass(frozen=True)
class Timing:
    """Median seconds of one walk, and the most bytes of workspace it held at a time, None where not known."""

    name: str
    seconds: float
    workspace_bytes: int | None = None


@dataclass
class DemoResult:
    """What the page tells.

    Attributes:
        title: what was looked at, for example "Street 0" or a file name.
        synthetic: the photo is a painted street, not one of a real road.
        photo: [H, W, 3], 0..255.
        before: [H, W] anomaly score without the walk, higher = more anomalous.
        after: [H, W] anomaly score with the walk.
        walk: time of our walk.
        pixels: N, pixels of the embedding map.
        channels: D, channels of the embeddings.
        value_channels: C, channels that are walked.
        alpha: probability to go on.
        steps: number of transitions T.
        temperature: softmax temperature tau.
        tolerance: dropped mass per row of the transition matrix, at most; 0 is exact.
        command: what to type to get this page again.
        labels: [H, W], 0 inlier, 1 anomaly, 255 void; None where there is no truth.
        accuracy_before: metrics without the walk, None without labels.
        accuracy_after: metrics with the walk, None without labels.
        baseline: time of the dense torch walk on the same map, None where it did not run.
        difference: ||ours - baseline|| / ||baseline||, None without a baseline.
        difference_bound: the largest difference that counts as agreement.
        environment: versions, processor, threads: name to value.
        settings: further settings to list, for example network, score and backend: name to value.
    """

    title: str
    synthetic: bool
    photo: ArrayLike
    before: ArrayLike
    after: ArrayLike
    walk: Timing
    pixels: int
    channels: int
    value_channels: int
    alpha: float
    steps: int
    temperature: float
    tolerance: float
    command: str
    labels: ArrayLike | None = None
    accuracy_before: Accuracy | None = None
    accuracy_after: Accuracy | None = None
    baseline: Timing | None = None
    difference: float | None = None
    difference_bound: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Our walk was compared with the baseline and is as near as the bound asks."""
        return None not in (self.difference, self.difference_bound) and self.difference <= self.difference_bound


def render_report(result: DemoResult) -> str:
    """The page of a result, one self-contained HTML document.

    Raises:
        ValueError: maps or labels whose shapes do not belong together.
        ModuleNotFoundError: matplotlib is not installed.
    """
    picture = panel(result.photo, result.before, result.after, labels=result.labels)
    sections = [
        f"<h1>{escape(headline(result))}</h1>",
        f"<p>{escape(_what_this_is(result))}</p>",
        image(figure_bytes(picture), "Photo, anomaly score without and with the walk, and their difference"),
        _accuracy(result),
        _timing(result),
        _settings(result),
        f"<h2>Repeat it</h2>\n<pre>{escape(result.command)}</pre>",
    ]
    return page(result.title, sections)


def headline(result: DemoResult) -> str:
    """One sentence: what the walk did to the metrics, and in what time."""
    time = f"{_seconds(result.walk.seconds)} for a walk over {result.pixels:,} pixels"
    if result.agrees:
        time += f", {_ratio(result)} the dense torch walk"
    before, after = result.accuracy_before, result.accuracy_after
    if before is None or after is None:
        return f"{result.title}: {time}."
    ap = f"AP {_percent(before.average_precision)} to {_percent(after.average_precision)}"
    fpr = f"FPR95 {_percent(before.fpr95)} to {_percent(after.fpr95)}"
    return f"{result.title}: {ap}, {fpr}, {time}."


def _what_this_is(result: DemoResult) -> str:
    if result.synthetic:
        return (
            "A painted street like those that the compact network learned from, though none of them, with something "
            "that no class is for on the road or beside it. One picture shows that the chain works from photo to "
            "metrics, and what the walk did here. It proves nothing about real roads."
        )
    text = "Your own photo. Bright pixels are what the network finds unlike the classes it knows."
    return text if result.labels is not None else f"{text} Without labels there is nothing to measure the scores by."


def _accuracy(result: DemoResult) -> str:
    before, after = result.accuracy_before, result.accuracy_after
    if result.labels is None or before is None or after is None:
        return ""
    rows = [
        (name, _percent(getattr(before, key)), _percent(getattr(after, key)), better)
        for name, key, better in (
            ("AP", "average_precision", "higher"),
            ("AuROC", "auroc", "higher"),
            ("FPR95", "fpr95", "lower"),
        )
    ]
    scores = {"without the walk": result.before, "with the walk": result.after}
    curves = roc_pr_figure({name: _curve(score, result.labels) for name, score in scores.items()})
    return "\n".join(
        (
            "<h2>Accuracy</h2>",
            table(("Metric", "Without the walk", "With the walk", "Better is"), rows),
            image(figure_bytes(curves), "ROC and precision-recall curves without and with the walk"),
        )
    )


def _curve(score: ArrayLike, labels: ArrayLike) -> Curve:
    metrics = PixelMetrics()
    metrics.update(score, labels)
    return metrics.curve()


def _timing(result: DemoResult) -> str:
    timings = [result.walk] if result.baseline is None else [result.walk, result.baseline]
    rows = [(timing.name, _seconds(timing.seconds), _bytes(timing.workspace_bytes)) for timing in timings]
    parts = ["<h2>Time</h2>", table(("Walk", "Median time", "Peak workspace"), rows)]
    if result.baseline is not None:
        parts.append(f"<p>{escape(_agreement(result))}</p>")
    return "\n".join(parts)


def _agreement(result: DemoResult) -> str:
    """A ratio of times is told only where both computed the same thing."""
    if result.difference is None or result.difference_bound is None:
        return "The two results were not compared, so their times are not either."
    found = f"relative difference of the results, in norm: {result.difference:.1e}, bound {result.difference_bound:.1e}"
    if not result.agrees:
        return f"The two do not agree ({found}), so their times are not compared."
    return f"Ours is {_ratio(result)} the dense torch walk, and the two agree ({found})."


def _ratio(result: DemoResult) -> str:
    ratio = result.baseline.seconds / result.walk.seconds
    return f"{ratio:.3g} times faster than" if ratio >= 1 else f"{1 / ratio:.3g} times slower than"


def _settings(result: DemoResult) -> str:
    rows = [
        ("pixels N", f"{result.pixels:,}"),
        ("embedding channels D", str(result.channels)),
        ("value channels C", str(result.value_channels)),
        ("alpha", f"{result.alpha:g}"),
        ("steps T", str(result.steps)),
        ("temperature tau", f"{result.temperature:g}"),
        ("tolerance", f"{result.tolerance:g}" if result.tolerance else "0 (exact)"),
        *result.settings.items(),
        *result.environment.items(),
    ]
    return "<h2>Settings and machine</h2>\n" + table(("Name", "Value"), rows)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _bytes(value: int | None) -> str:
    return "not known" if value is None else f"{value / 2**20:,.1f} MiB"
