"""Evaluation report as one HTML page: metrics and published figures, curves, and the walk's effect on each image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from typing import Any

from ..info import info
from ..viz.figures import figure_bytes, roc_pr_figure
from ..viz.html import Markup, image, page, table
from .per_image import Comparison, percent
from .plan import SCORE_WALKED
from .results import COMPONENTS, EvaluationResult
from .runner import ImageResult

MAX_PANELS = 100
# Columns in which the better of the rows "without" and "with" is bold. Times are not compared: the walk takes some.
BETTER = {"AuROC": max, "AP": max, "FPR95": min, **dict.fromkeys(COMPONENTS, max)}


def render_report(
    result: EvaluationResult,
    *,
    panels: int | None = None,
    progress: Callable[[list[ImageResult]], Iterable[ImageResult]] = iter,
) -> str | None:
    """Render a result as one self-contained HTML document, with about 150 kB per picture.

    Photos are read again, and their score maps come from the sweeps.

    Args:
        result: result of an evaluation; every process that shares it calls this.
        panels: largest number of pictures of photos, divided among the data sets; None for 100.
        progress: wraps the images that this process draws, once per data set.

    Returns:
        The page in the first process, None in the others.

    Raises:
        ValueError: ``panels`` is negative.
        OSError: a photo or its score map can no longer be read.
        ImportError: matplotlib is not installed.
    """
    if panels is not None and panels < 0:
        raise ValueError(f"panels: expected 0 or more, got {panels}")
    left = MAX_PANELS if panels is None else panels
    comparisons = {title: found for title in result.sweeps if (found := Comparison.from_result(result, title))}
    pictures: dict[str, dict[int, bytes]] = {}
    for title, comparison in comparisons.items():
        pictures[title] = comparison.panels(left // (len(comparisons) - len(pictures)), progress)
        left -= len(pictures[title])
    if not result.processes.first:
        return None
    sections = [
        f"<h1>{escape(result.title)}</h1>",
        f"<p><b>{'<br>'.join(escape(headline(title, comparisons.get(title))) for title in result.sweeps)}</b></p>"
        if comparisons or result.reference is None
        else "",
        table(result.header(), _cells(result)),
        f"<p>Figures in percent{'' if result.reference is not None else ', FPS in frames per second'}.</p>",
        *_by_photo(result),
        *_footnotes(result),
    ]
    for title in result.sweeps:
        sections += [f"<h2>{escape(title)}</h2>", *_curves(result, title)]
        if title in comparisons:
            sections += comparisons[title].sections(pictures[title])
    if result.command:
        sections.append(f"<h2>Repeat it</h2>\n<pre>{escape(result.command)}</pre>")
    sections += [
        "<h2>Settings and machine</h2>",
        table(("Name", "Value"), [(name, _text(value)) for name, value in _settings(result).items()]),
    ]
    return page(result.title, sections)


def headline(title: str, comparison: Comparison | None) -> str:
    """Summarize the effect of the walk on AP and FPR95 of a data set, by its first score, in one sentence."""
    if comparison is None:
        return f"{title}: no walk to compare with going without."
    before, after = comparison.before.result, comparison.after.result
    if not before.positives:
        return f"{title}: no anomaly."
    ap = f"AP {percent(before.ap)} % to {percent(after.ap)} %"
    fpr95 = f"FPR95 {percent(before.fpr95)} % to {percent(after.fpr95)} %"
    how = f"from {comparison.before.label} to {comparison.walk}" if comparison.of_methods else f"with {comparison.walk}"
    return f"{title}, {comparison.after.score}: {ap}, {fpr95} {how}."


def _cells(result: EvaluationResult) -> list[list[str]]:
    """Return the table; the best of a data set and score in bold where their rows are those of one walk."""
    table, header = result.cells(), result.header()
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for index, row in enumerate(result.rows):
        groups.setdefault((row.dataset, row.score), {})[row.label] = index
    for group in groups.values():
        if group.keys() - {"without", "with", "anchored", SCORE_WALKED}:
            continue
        for column, name in enumerate(header):
            better = BETTER.get(name.removeprefix("published ").removeprefix("SMIYC "))
            cells = {index: table[index][column] for index in group.values()}
            if better and len(set(cells.values())) > 1 and "-" not in cells.values():
                best = better(cells.values(), key=float)
                for index in (index for index, cell in cells.items() if cell == best):
                    table[index][column] = Markup(f"<b>{escape(best)}</b>")
    return table


def _by_photo(result: EvaluationResult) -> Iterator[str]:
    if cells := result.paired_cells():
        yield table(result.paired_header(), cells)
        yield f"<p>{escape(result.by_photo())}</p>"


def _footnotes(result: EvaluationResult) -> Iterator[str]:
    yield from (f"<p>{escape(footnote)}</p>" for footnote in result.footnotes())
    if result.failures:
        yield "<h2>Photos that could not be used</h2>"
        yield table(("Photo", "Reason"), result.failures.items())


def _curves(result: EvaluationResult, dataset: str) -> Iterator[str]:
    """Yield ROC and precision-recall curves of a data set, one figure per score."""
    sweep = result.sweeps[dataset]
    rows = [row for row in result.rows if row.dataset == dataset]
    for score in dict.fromkeys(row.score for row in rows):
        curves = {row.label: sweep.curves[row.label, score] for row in rows if row.score == score}
        if all(curve.positives and curve.negatives for curve in curves.values()):
            figure = figure_bytes(roc_pr_figure(curves))
            description = f"{dataset}, {score}: ROC and precision-recall curves of {', '.join(curves)}"
            yield f"<h3>Curves, {escape(score)}</h3>\n{image(figure, description)}"
        else:
            yield f"<p>{escape(score)}: curves need pixels of anomalies and of inliers; one kind is missing.</p>"


def _settings(result: EvaluationResult) -> dict[str, Any]:
    """Return settings, the walk of each label, and facts about the machine."""
    walks = {}
    for row in result.rows:
        if row.settings is not None:
            dataset = [row.dataset] if len(result.sweeps) > 1 else []
            walks[", ".join(["walk", *dataset, row.label])] = row.settings
    return {**result.settings, **walks, **info()}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ("; " if any(isinstance(item, Mapping) for item in value) else ", ").join(map(_text, value))
    return "-" if value is None else str(value)
