"""Render the demo's report: one HTML file that needs neither scripts nor a network connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from numpy.typing import ArrayLike

from ..metrics import Curve, PixelMetrics, PixelResult
from ..ops.settings import WalkSettings
from ..viz.figures import figure_bytes, panel, roc_pr_figure
from ..viz.html import image, page, table


@dataclass(frozen=True)
class Timing:
    """The time and memory of one walk.

    Attributes:
        name: of the walk, for the report.
        seconds: median time of one run.
        workspace_bytes: most bytes of working memory held at a time; None if not known.
    """

    name: str
    seconds: float
    workspace_bytes: int | None = None


@dataclass(frozen=True)
class DemoResult:
    """What the report shows.

    Attributes:
        title: of the image, for example "Street 0" or a file name.
        synthetic: the image is a rendered scene, not a photo of a real road.
        photo: [H, W, 3], 0..255.
        before: [H, W] anomaly score without the walk, higher = more anomalous.
        after: [H, W] anomaly score with the walk.
        walk: time and memory of our walk.
        pixels: N, pixels of the embedding map.
        channels: D, channels of the embeddings.
        value_channels: C, channels of the values that are walked.
        walk_settings: of our walk.
        command: shell command that repeats the demo.
        labels: [H, W], 0 inlier, 1 anomaly, 255 void; None if there is no ground truth.
        metrics_before: pixel metrics without the walk; None without labels.
        metrics_after: pixel metrics with the walk; None without labels.
        baseline: time and memory of the dense walk in PyTorch on the same map; None if it did not run.
        difference: ||ours - baseline|| / ||baseline||; None without a baseline.
        difference_bound: largest difference that counts as agreement.
        settings: further settings to list, for example network and score: name to value.
        environment: versions, processor, cores: name to value.
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
    walk_settings: WalkSettings
    command: str
    labels: ArrayLike | None = None
    metrics_before: PixelResult | None = None
    metrics_after: PixelResult | None = None
    baseline: Timing | None = None
    difference: float | None = None
    difference_bound: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether our walk was compared with the baseline and differs from it by no more than the bound."""
        if self.difference is None or self.difference_bound is None:
            return False
        return self.difference <= self.difference_bound


def render_report(result: DemoResult) -> str:
    """Render a result as one self-contained HTML document.

    Args:
        result: of :func:`rwpm_fast.demo.demo_scene` or :func:`rwpm_fast.demo.demo_photo`.

    Raises:
        ValueError: maps or labels whose shapes do not match.
        ImportError: matplotlib is not installed.
    """
    maps = panel(result.photo, result.before, result.after, labels=result.labels)
    sections = [
        f"<h1>{escape(headline(result))}</h1>",
        f"<p>{escape(_introduction(result))}</p>",
        image(figure_bytes(maps), "Photo, anomaly score without and with the walk, and their difference"),
        _metrics_section(result),
        _timing_section(result),
        _settings_section(result),
        f"<h2>Repeat it</h2>\n<pre>{escape(result.command)}</pre>",
    ]
    return page(result.title, sections)


def headline(result: DemoResult) -> str:
    """Sum up in one sentence how the walk changed the metrics, and how long it took."""
    time = f"{_seconds(result.walk.seconds)} for a walk over {result.pixels:,} pixels"
    if result.agrees and result.baseline is not None:
        time += f", {_ratio(result.walk, result.baseline)} the dense torch walk"
    before, after = result.metrics_before, result.metrics_after
    if before is None or after is None:
        return f"{result.title}: {time}."
    ap = f"AP {_percent(before.ap)} to {_percent(after.ap)}"
    fpr = f"FPR95 {_percent(before.fpr95)} to {_percent(after.fpr95)}"
    return f"{result.title}: {ap}, {fpr}, {time}."


def _introduction(result: DemoResult) -> str:
    if result.synthetic:
        return (
            "A rendered street. The compact network was trained on scenes of this kind, but not on this one. On the "
            "road or next to it are objects that belong to none of the network's classes. One image shows that the "
            "pipeline works from photo to metrics, and what the walk changed here. It proves nothing about real roads."
        )
    text = "Your own photo. Bright pixels are those that the network finds unlike the classes it knows."
    return text if result.labels is not None else f"{text} Without labels the scores cannot be evaluated."


def _metrics_section(result: DemoResult) -> str:
    before, after = result.metrics_before, result.metrics_after
    if result.labels is None or before is None or after is None:
        return ""
    rows = [
        ("AP", _percent(before.ap), _percent(after.ap), "higher"),
        ("AuROC", _percent(before.auroc), _percent(after.auroc), "higher"),
        ("FPR95", _percent(before.fpr95), _percent(after.fpr95), "lower"),
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


def _timing_section(result: DemoResult) -> str:
    timings = [result.walk] if result.baseline is None else [result.walk, result.baseline]
    rows = [(timing.name, _seconds(timing.seconds), _bytes(timing.workspace_bytes)) for timing in timings]
    parts = ["<h2>Time</h2>", table(("Walk", "Median time", "Peak workspace"), rows)]
    if result.baseline is not None:
        parts.append(f"<p>{escape(_agreement(result, result.baseline))}</p>")
    return "\n".join(parts)


def _agreement(result: DemoResult, baseline: Timing) -> str:
    """Say whether the two walks agree; their times are compared only if they do."""
    if result.difference is None or result.difference_bound is None:
        return "The two results were not compared, so their times are not either."
    found = f"relative difference of the results, in norm: {result.difference:.1e}, bound {result.difference_bound:.1e}"
    if not result.agrees:
        return f"The two do not agree ({found}), so their times are not compared."
    return f"Ours is {_ratio(result.walk, baseline)} the dense torch walk, and the two agree ({found})."


def _ratio(walk: Timing, baseline: Timing) -> str:
    ratio = baseline.seconds / walk.seconds
    return f"{ratio:.3g} times faster than" if ratio >= 1 else f"{1 / ratio:.3g} times slower than"


def _settings_section(result: DemoResult) -> str:
    walk = result.walk_settings
    rows = [
        ("pixels N", f"{result.pixels:,}"),
        ("embedding channels D", str(result.channels)),
        ("value channels C", str(result.value_channels)),
        ("alpha", f"{walk.alpha:g}"),
        ("steps T", str(walk.steps)),
        ("temperature tau", f"{walk.temperature:g}"),
        ("tolerance", f"{walk.tolerance:g}" if walk.tolerance else "0 (exact)"),
        ("sub-maps", f"{walk.parts} x {walk.parts}"),
        *([("anchored pixels", f"{100 * walk.anchor_share:g} %")] if walk.anchor_share else []),
        *([("anchor", f"{walk.anchor:g}")] if walk.anchor > -1 and not walk.anchor_share else []),
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
