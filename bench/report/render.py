"""The command ``python -m bench.report.render``.

    python -m bench.report.render RECORD.json ... [--markdown FILE] [--chart FILE.png] [--contenders PATTERN ...]

Measures nothing: whoever has the records can make them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench import frame_share
from rwpm_fast import benchmark
from rwpm_fast.benchmark import Case, Comparison, Record, Result
from rwpm_fast.benchmark.published import SOURCE, published_row
from rwpm_fast.io.console import run_command
from rwpm_fast.io.files import atomic_write, write_text
from rwpm_fast.io.outputs import check_outputs
from rwpm_fast.viz.figures import figure_bytes

MARKERS = "os^v"

Rendered = Record | frame_share.ShareRecord


def read_records(path: Path) -> list[Rendered]:
    """The record of ``python -m bench``, ``rwpm-fast bench`` or ``python -m bench.frame_share``, or those of
    ``python -m bench.gpu``'s timings.json.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds none, or one of a tree that differed from its commit.
    """
    what = "expected a record of python -m bench --json"
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {what}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {what}, got something else in JSON")
    parts = [part["record"] for part in content.values() if isinstance(part, dict) and "record" in part]
    try:
        records = list(map(_read, parts or [content]))
    except KeyError as error:
        raise ValueError(f"{path}: {what}, got something else in JSON: it has no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {what}, got something else in JSON: {error}") from error
    for record in records:
        if (record.commit or "").endswith("-dirty"):
            raise ValueError(
                f"{path}: expected figures of a commit that can be checked out, got {record.commit}; commit what is "
                f"changed and record again: {record.command}"
            )
    return records


def _read(content: dict[str, Any]) -> Rendered:
    shares = content.get("kind") == frame_share.KIND
    return frame_share.ShareRecord.from_json(content) if shares else Record.from_json(content)


def table(record: Rendered) -> str:
    """A record as Markdown."""
    return benchmark.markdown(record) if isinstance(record, Record) else frame_share.markdown(record)


def _family(case: Case) -> tuple:
    """What cases of one curve share: all but their size."""
    return case.name, case.channels, case.value_channels, case.settings, case.dtype


def _shown(compared: Comparison, patterns: list[str]) -> list[Result]:
    """Rows that have a time and match a pattern."""
    return [r for r in compared.rows if r.seconds is not None and any(fnmatchcase(r.contender, p) for p in patterns)]


def chart(records: list[Record], patterns: list[str]) -> bytes:
    """Seconds against pixels, both logarithmic, a panel for each family of cases: the bytes of a PNG.

    Raises:
        ValueError: no row with a time matches the patterns.
    """
    from matplotlib.figure import Figure

    # family -> label -> pixels -> seconds; a later record's time stands for an earlier one's.
    families: dict[tuple, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for compared in [c for record in records for c in record.cases]:
        for row in _shown(compared, patterns):
            families[_family(compared.case)][row.label][compared.case.pixels] = row.seconds
    if not families:
        raise ValueError(f"--contenders: no row with a time matches {' '.join(patterns)}")

    figure = Figure((7 * len(families), 7), dpi=120, layout="constrained", facecolor="white")
    for axes, (family, series) in zip(
        figure.subplots(1, len(families), squeeze=False)[0], families.items(), strict=True
    ):
        name, channels, value_channels, walk, dtype = family
        for number, (label, points) in enumerate(series.items()):
            pixels = sorted(points)
            ours = label.startswith("rwpm_fast")
            style = {"linewidth": 2.5} if ours else {"linewidth": 1.2, "linestyle": "--"}
            marker = MARKERS[number // 10 % len(MARKERS)]  # ten colors, then they begin again
            axes.plot(pixels, [points[n] for n in pixels], marker=marker, label=label, **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        sizes = sorted({n for points in series.values() for n in points})
        axes.set_xticks(sizes, [f"{n:,}".replace(",", " ") for n in sizes])
        axes.minorticks_off()
        axes.set_xlabel("pixels N")
        axes.set_ylabel("seconds a frame, median")
        settings = f"T = {walk.steps}, tau = {walk.temperature:g}, alpha = {walk.alpha:g}, {dtype}"
        axes.set_title(f"{name}\nD = {channels}, C = {value_channels}, {settings}", fontsize=10)
        axes.grid(which="both", alpha=0.25)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    figure.suptitle(records[-1].where, fontsize=10)
    return figure_bytes(figure)


def fps_chart(records: list[Record], patterns: list[str]) -> bytes:
    """Frames a second of the walk alone as bars, a panel for each case, with published figures: the bytes of a PNG.

    Raises:
        ValueError: no row with a time matches the patterns.
    """
    from matplotlib.figure import Figure

    panels = []
    for compared in [c for record in records for c in record.cases]:
        bars = [(row.label, row.frames_per_second) for row in _shown(compared, patterns)]
        if bars and (found := published_row(compared.case)):
            bars.append((f"published: {SOURCE}", found.alone))
        if bars:
            panels.append((compared.case.title(), bars))
    if not panels:
        raise ValueError(f"--contenders: no row with a time matches {' '.join(patterns)}")

    heights = [1 + len(bars) for _, bars in panels]
    figure = Figure((10, 0.32 * sum(heights) + 1), dpi=120, layout="constrained", facecolor="white")
    every = figure.subplots(len(panels), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})
    for axes, (title, bars) in zip(every[:, 0], panels, strict=True):
        labels, rates = zip(*bars, strict=True)
        colors = ["C0" if label.startswith("rwpm_fast") else "0.6" for label in labels]
        axes.bar_label(axes.barh(labels, rates, color=colors), [f"{rate:.3g}" for rate in rates], padding=3, fontsize=7)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.1)
        axes.tick_params(labelsize=7)
        axes.set_title(title, fontsize=8)
        axes.grid(axis="x", which="both", alpha=0.25)
    every[-1, 0].set_xlabel("frames a second, the walk alone")
    figure.suptitle(records[-1].where, fontsize=10)
    return figure_bytes(figure)


SUMMARY = "Markdown tables and a chart from records of the benchmark."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report.render", description=SUMMARY)
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD", help="JSON that the benchmark wrote")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there (default: print them)")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw time against pixels, or FPS")
    parser.add_argument("--contenders", nargs="+", default=["*"], metavar="PATTERN", help="whom to draw (default: all)")
    return run_command(parser, render, arguments)


def render(options: argparse.Namespace) -> int:
    outputs = [(f"--{name}", getattr(options, name)) for name in ("markdown", "chart")]
    check_outputs([output for output in outputs if output[1]], options.records, "give another file")
    records = [record for path in options.records for record in read_records(path)]
    machines = {record.where for record in records}
    if options.chart and len(machines) > 1:
        raise ValueError(f"--chart: expected records of one machine, got {len(machines)}")
    text = "\n".join(map(table, records))
    kinds = {record.kind for record in records}
    if options.chart and (len(kinds) > 1 or kinds == {frame_share.KIND}):
        raise ValueError("--chart: expected records of one kind, of python -m bench or of its fps")
    if options.chart:
        draw = fps_chart if kinds == {"fps"} else chart
        picture = draw(records, options.contenders)
        atomic_write(options.chart, lambda file: file.write(picture))
    if options.markdown:
        write_text(options.markdown, text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
