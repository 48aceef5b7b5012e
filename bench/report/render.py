"""Markdown tables and a chart from records of the benchmark.

    python bench/render.py RECORD.json ... [--markdown FILE] [--chart FILE.png] [--contenders PATTERN ...]

Measures nothing: who has the records can make them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rwpm_fast.benchmark import fps, markdown
from rwpm_fast.io.files import atomic_write
from rwpm_fast.viz.figures import figure_bytes

# What cases of one curve share: all but their size.
FAMILY = ("name", "channels", "value_channels", "alpha", "steps", "temperature")

MARKERS = "os^v"


def read_records(path: Path) -> list[dict[str, Any]]:
    """The record of ``python -m bench`` or ``rwpm-fast bench``, or those of ``python -m bench.gpu``'s timings.json.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds none.
    """
    wanted = "expected a record of python -m bench --json"
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {wanted}: {error}") from error
    if isinstance(content, dict):
        parts = [part["record"] for part in content.values() if isinstance(part, dict) and "record" in part]
        records = parts or [content]
        if all({"machine", "command", "cases"} <= record.keys() for record in records):
            return records
    raise ValueError(f"{path}: {wanted}, got something else in JSON")


def chart(records: list[dict[str, Any]], patterns: list[str]) -> bytes:
    """Seconds against pixels, both logarithmic, a panel for each family of cases: the bytes of a PNG.

    Raises:
        ValueError: no row with a time matches the patterns.
    """
    from matplotlib.figure import Figure

    # family -> label -> pixels -> seconds; a later record's time stands for an earlier one's.
    families: dict[tuple, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        for compared in record["cases"]:
            case = compared["case"]
            for row in compared["rows"]:
                if "seconds" in row and any(fnmatchcase(row["contender"], p) for p in patterns):
                    families[tuple(case[name] for name in FAMILY)][row["label"]][case["pixels"]] = row["seconds"]
    if not families:
        raise ValueError(f"--contenders: no row with a time matches {' '.join(patterns)}")

    figure = Figure((7 * len(families), 7), dpi=120, layout="constrained", facecolor="white")
    for axes, (family, series) in zip(
        figure.subplots(1, len(families), squeeze=False)[0], families.items(), strict=True
    ):
        name, channels, value_channels, alpha, steps, temperature = family
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
        settings = f"D = {channels}, C = {value_channels}, T = {steps}, tau = {temperature:g}, alpha = {alpha:g}"
        axes.set_title(f"{name}\n{settings}", fontsize=10)
        axes.grid(which="both", alpha=0.25)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    figure.suptitle(name_of(records[-1]["machine"]), fontsize=10)
    return figure_bytes(figure)


def is_fps(record: dict[str, Any]) -> bool:
    """Whether a record is of ``rwpm-fast bench fps``."""
    return record.get("kind") == fps.KIND


def table(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    return fps.markdown(record) if is_fps(record) else markdown(record)


def fps_chart(records: list[dict[str, Any]], patterns: list[str]) -> bytes:
    """Frames a second of the walk alone as bars, a panel for each case, published figures beside: the bytes of a PNG.

    Raises:
        ValueError: no row with a time matches the patterns.
    """
    from matplotlib.figure import Figure

    panels = []
    for compared in [c for record in records for c in record["cases"]]:
        shown = [
            r for r in compared["rows"] if "seconds" in r and any(fnmatchcase(r["contender"], p) for p in patterns)
        ]
        bars = [(row["label"], row["frames_per_second"]) for row in shown]
        if bars and (found := fps.published(compared["case"])):
            bars.append((f"published: {fps.SOURCE}", found.alone))
        if bars:
            panels.append((compared["case"]["title"], bars))
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
    figure.suptitle(name_of(records[-1]["machine"]), fontsize=10)
    return figure_bytes(figure)


def name_of(machine: dict[str, Any]) -> str:
    """A record's machine: its GPU, or its processor and threads."""
    gpu = machine.get("gpu")
    return gpu["name"] if gpu else f"{machine['processor']}, {machine['torch_threads']} threads"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench/render.py", description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD", help="JSON that the benchmark wrote")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there (default: print them)")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw time against pixels, or FPS")
    parser.add_argument("--contenders", nargs="+", default=["*"], metavar="PATTERN", help="whom to draw (default: all)")
    options = parser.parse_args(arguments)
    try:
        records = [record for path in options.records for record in read_records(path)]
        machines = {name_of(r["machine"]) for r in records}
        if options.chart and len(machines) > 1:
            raise ValueError(f"--chart: expected records of one machine, got {len(machines)}")
        text = "\n".join(map(table, records))
        if options.chart and len({is_fps(r) for r in records}) > 1:
            raise ValueError("--chart: expected records of one kind, got some of python -m bench and some of its fps")
        if options.chart:
            draw = fps_chart if is_fps(records[0]) else chart
            picture = draw(records, options.contenders)
            atomic_write(options.chart, lambda file: file.write(picture))
        if options.markdown:
            atomic_write(options.markdown, lambda file: file.write(text.encode()))
        else:
            print(text, end="")
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
