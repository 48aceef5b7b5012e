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

from rwpm_fast.bench import markdown
from rwpm_fast.images import write_whole
from rwpm_fast.pictures import figure_bytes

# What cases of one curve share: all but their size.
FAMILY = ("name", "channels", "value_channels", "alpha", "steps", "temperature")

MARKERS = "os^v"


def read_record(path: Path) -> dict[str, Any]:
    """A record of ``python -m bench`` or ``rwpm-fast bench``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no record.
    """
    wanted = "expected a record of python -m bench --json"
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {wanted}: {error}") from error
    if not isinstance(record, dict) or not {"machine", "command", "cases"} <= record.keys():
        raise ValueError(f"{path}: {wanted}, got something else in JSON")
    return record


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
            marker = MARKERS[number // 10 % len(MARKERS)]  # ten colours, then they begin again
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
    machine = records[-1]["machine"]
    figure.suptitle(f"{machine['processor']}, {machine['torch_threads']} threads", fontsize=10)
    return figure_bytes(figure)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench/render.py", description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD", help="JSON that the benchmark wrote")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there (default: print them)")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw time against pixels")
    parser.add_argument("--contenders", nargs="+", default=["*"], metavar="PATTERN", help="whom to draw (default: all)")
    options = parser.parse_args(arguments)
    try:
        records = [read_record(path) for path in options.records]
        machines = {(r["machine"]["processor"], r["machine"]["torch_threads"]) for r in records}
        if options.chart and len(machines) > 1:
            raise ValueError(f"--chart: expected records of one machine, got {len(machines)}")
        text = "\n".join(map(markdown, records))
        if options.chart:
            picture = chart(records, options.contenders)
            write_whole(options.chart, lambda file: file.write(picture))
        if options.markdown:
            write_whole(options.markdown, lambda file: file.write(text.encode()))
        else:
            print(text, end="")
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
