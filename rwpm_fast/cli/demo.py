"""The sub-command ``demo``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ..io.arguments import non_default_args
from ..io.extras import require_extras
from ..io.files import make_folder
from ..io.outputs import check_outputs
from .loading import load_scorer
from .options import add_network_options, add_walk_options

SUMMARY = "Score a rendered street or a photo without and with the walk, and write a report as one HTML page."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photo", type=Path, help="a photo instead of the rendered street")
    parser.add_argument("--seed", type=int, default=0, help="which street to render (default: %(default)s)")
    parser.add_argument("--score", help="anomaly score (default: the one of the network's authors)")
    parser.add_argument(
        "--out", type=Path, default=Path("rwpm-demo"), help="folder for the report (default: %(default)s)"
    )
    add_network_options(parser)
    add_walk_options(parser)
    parser.set_defaults(method=None)


def run(options: argparse.Namespace) -> int:
    from ..demo import demo_photo, demo_scene, render_report
    from ..io.files import atomic_write
    from ..io.images import read_image
    from ..viz.figures import figure_bytes, panel

    require_extras("demo", "matplotlib.figure", "PIL.Image")
    if options.walk_values == "none":
        raise ValueError("--walk-values: expected what walks, since the demo shows what the walk does, got 'none'")
    report, picture = options.out / "report.html", options.out / "panel.png"
    check_outputs([("--out", report), ("--out", picture)], [options.photo, options.weights], "give another --out")
    make_folder(options.out, "--out")
    scorer = load_scorer(options, options.score)
    command = shlex.join(["rwpm-fast", "demo", *non_default_args(options, add_arguments)])
    if options.photo is None:
        print(f"render street {options.seed}, score it, and time the walk against dense torch ...")
        result = demo_scene(options.seed, scorer, command)
    else:
        result = demo_photo(read_image(options.photo, upright=True), options.photo.name, scorer, command)

    png = figure_bytes(panel(result.photo, result.before, result.after, labels=result.labels))
    atomic_write(picture, lambda file: file.write(png))
    atomic_write(report, lambda file: file.write(render_report(result).encode()))
    for metrics, walk in ((result.metrics_before, "without"), (result.metrics_after, "with")):
        if metrics is not None:
            numbers = metrics.auroc, metrics.ap, metrics.fpr95
            print("{:>7} the walk: AuROC {:.1%}  AP {:.1%}  FPR95 {:.1%}".format(walk, *numbers))
    line = f"walk of {result.pixels} pixels: {result.walk.seconds:.3f} s"
    if result.baseline is not None:
        line += (
            f", dense torch {result.baseline.seconds:.3f} s, relative difference {result.difference:.1e} "
            f"({'agrees' if result.agrees else 'DOES NOT AGREE'})"
        )
    print(f"{line}\nreport: {report}\npicture: {picture}")
    return 0 if result.baseline is None or result.agrees else 1
