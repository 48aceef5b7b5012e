"""An evaluation as one HTML page: figures beside the published ones, curves, and what the walk did to each photo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from typing import Any

from ..info import info
from ..viz.figures import figure_bytes, roc_pr_figure
from ..viz.html import Markup, image, page, table
from .distributed import ALONE
from .per_image import Comparison, percent
from .results import Outcome
from .runner import Photo

MOST_PANELS = 100
# Columns in which one of the two, without and with, is better; the walk's time is no contest.
BETTER = {"AuROC": max, "AP": max, "FPR95": min, "sIoU": max, "PPV": max, "mean F1": max}


def render_report(
    outcome: Outcome,
    *,
    panels: int | None = None,
    progress: Callable[[list[Photo]], Iterable[Photo]] = iter,
) -> str | None:
    """The page of an outcome, one self-contained HTML document; about 150 kB a picture of a photo.

    Photos are read again, and their score maps come from the sweeps. Each photo's own metrics are told where the
    sweeps have them (``by_photo=True``).

    Args:
        outcome: whose sweeps are held by the same processes that made them; each process calls this.
        panels: pictures of photos, at most, shared by the data sets; None for 100.
        progress: wraps the photos that this process draws, once a data set.

    Returns:
        The page in the first process, None in the others.

    Raises:
        ValueError: ``panels`` is negative.
        OSError: a photo, or what the sweep kept of it, cannot be read any more.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if panels is not None and panels < 0:
        raise ValueError(f"panels: expected 0 or more, got {panels}")
    left = MOST_PANELS if panels is None else panels
    comparisons = {title: found for title in outcome.sweeps if (found := Comparison.of(outcome, title))}
    pictures = {}
    for title, comparison in comparisons.items():
        pictures[title] = comparison.panels(left // (len(comparisons) - len(pictures)), progress)
        left -= len(pictures[title])
    if not next((sweep.processes for sweep in outcome.sweeps.values()), ALONE).first:
        return None
    sections = [
        f"<h1>{escape(outcome.title)}</h1>",
        f"<p><b>{'<br>'.join(escape(headline(title, comparisons.get(title))) for title in outcome.sweeps)}</b></p>",
        table(outcome.header(), _rows(outcome)),
        "<p>Figures in percent, FPS in frames a second.</p>",
        *_remarks(outcome),
    ]
    for title in outcome.sweeps:
        sections += [f"<h2>{escape(title)}</h2>", *_curves(outcome, title)]
        if title in comparisons:
            sections += comparisons[title].sections(pictures[title])
    sections += [
        f"<h2>Repeat it</h2>\n<pre>{escape(outcome.command)}</pre>",
        "<h2>Settings and machine</h2>",
        table(("Name", "Value"), [(name, _text(value)) for name, value in _settings(outcome).items()]),
    ]
    return page(outcome.title, sections)


def headline(title: str, comparison: Comparison | None) -> str:
    """One sentence: what the walk did to AP and FPR95 on a data set, by its first score."""
    if comparison is None:
        return f"{title}: no walk to compare with going without."
    before, after = comparison.before.result, comparison.after.result
    if not before.positives:
        return f"{title}: no anomaly."
    ap = f"AP {percent(before.ap)} % to {percent(after.ap)} %"
    fpr95 = f"FPR95 {percent(before.fpr95)} % to {percent(after.fpr95)} %"
    return f"{title}, {comparison.after.score}: {ap}, {fpr95} with {comparison.walk}."


def _rows(outcome: Outcome) -> list[list[str]]:
    """The table; the better of without and with in bold where a data set and score have just these."""
    rows, header = outcome.rows(), outcome.header()
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for index, line in enumerate(outcome.lines):
        groups.setdefault((line.dataset, line.score), {})[line.label] = index
    for group in groups.values():
        if group.keys() != {"without", "with"}:
            continue
        for column, name in enumerate(header):
            better = BETTER.get(name.removeprefix("published "))
            cells = {rows[index][column]: index for index in group.values()}
            if better and len(cells) == 2 and "-" not in cells:
                cell = better(cells, key=float)
                rows[cells[cell]][column] = Markup(f"<b>{escape(cell)}</b>")
    return rows


def _remarks(outcome: Outcome) -> Iterator[str]:
    yield from (f"<p>{escape(remark)}</p>" for remark in outcome.remarks())
    if outcome.failures:
        yield "<h2>Photos that could not be used</h2>"
        yield table(("Photo", "Reason"), outcome.failures.items())


def _curves(outcome: Outcome, dataset: str) -> Iterator[str]:
    """ROC and precision-recall curves of a data set, a figure a score."""
    sweep = outcome.sweeps[dataset]
    lines = [line for line in outcome.lines if line.dataset == dataset]
    for score in dict.fromkeys(line.score for line in lines):
        curves = {line.label: sweep.curves[line.label, score] for line in lines if line.score == score}
        if all(curve.positives and curve.negatives for curve in curves.values()):
            figure = figure_bytes(roc_pr_figure(curves))
            description = f"{dataset}, {score}: ROC and precision-recall curves of {', '.join(curves)}"
            yield f"<h3>Curves, {escape(score)}</h3>\n{image(figure, description)}"
        else:
            yield f"<p>{escape(score)}: curves want pixels of anomalies and of inliers, and there are none of one.</p>"


def _settings(outcome: Outcome) -> dict[str, Any]:
    """Settings, the walk of each label, and the machine."""
    walks = {}
    for line in outcome.lines:
        if line.settings is not None:
            some = [line.dataset] if len(outcome.sweeps) > 1 else []
            walks[", ".join(["walk", *some, line.label])] = line.settings
    return {**outcome.settings, **walks, **info()}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ("; " if any(isinstance(one, Mapping) for one in value) else ", ").join(map(_text, value))
    return "-" if value is None else str(value)
