"""Pooled AuROC, AP and FPR95 on labeled photos, without and with the walk, or as a table of the RWPM papers."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.files import make_folder, make_folder_of, write_json, write_text
from ..io.progress import progress
from .datasets import add_dataset_options
from .options import add_network_options, add_walk_options, load_network
from .plans import Plan, Run, plan

if TYPE_CHECKING:
    from ..evaluate import Processes, Sweep
    from ..evaluate.results import Line, Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "method",
        nargs="?",
        metavar="METHOD",
        help="pebal, balanced_energy, mask2anomaly or rba: its network, with that one's score, and the settings of "
        "--preset",
    )
    add_dataset_options(parser, positional=False)
    group = parser.add_argument_group("photos and labels of any two folders, in place of a data set")
    group.add_argument("--images", type=Path, help="folder of photos")
    group.add_argument("--labels", type=Path, help="folder of label PNGs with the photos' stems")
    group.add_argument("--positive", type=int, nargs="+", help="label values of anomalies (default: 1)")
    group.add_argument("--negative", type=int, nargs="+", help="label values of inliers (default: 0)")
    group = parser.add_argument_group("what to measure")
    group.add_argument("--photos", type=int, metavar="N", help="the first N photos of each data set only")
    group.add_argument(
        "--preset", help="published settings of the walk: paper, or released with its T + 1 transitions; others replace"
    )
    group.add_argument(
        "--table",
        metavar="NAME",
        help="S1: the methods with networks of their own; S2: their walks on one network; S3: k-NN graphs; S4: "
        "temperatures; n: sub-maps. Walk options replace the table's settings",
    )
    group.add_argument(
        "--checkpoints", nargs="+", metavar="METHOD=FILE", help="of --table S1: the methods to run, with their weights"
    )
    group.add_argument(
        "--components",
        nargs="?",
        const="",
        metavar="TRACK",
        help="component metrics of SegmentMeIfYouCan too, with the size limits of a track (default: the data set's)",
    )
    group.add_argument(
        "--scores", nargs="+", help="(default: the network's own; without METHOD and --table energy and max_logit too)"
    )
    group.add_argument("--fpr-rule", default="fishyscapes", help="how FPR95 is read (default: %(default)s)")
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    group.add_argument("--csv", type=Path, metavar="FILE", help="write a line of figures a row to FILE")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE")
    group.add_argument("--html", type=Path, metavar="FILE", help="write a report with curves and photos to FILE")
    group.add_argument("--panels", type=int, metavar="N", help="pictures of photos in the report (default: up to 100)")
    group.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for what each photo gave, from which an interrupted run goes on "
        "(default: rwpm-tables for a table, memory for the rest)",
    )
    group.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="K",
        help="share the photos among K processes, and the threads unless --threads gives each a number (default: 1)",
    )
    add_network_options(parser)
    parser.set_defaults(network=None)
    add_walk_options(parser)


def run(options: argparse.Namespace) -> int:
    from ..evaluate import launch, of_torchrun, started

    if options.processes < 1:
        raise ValueError(f"--processes: expected 1 or more, got {options.processes}")
    if options.panels is not None and (options.panels < 0 or options.html is None):
        raise ValueError(f"--panels: expected 0 or more pictures for the report of --html, got {options.panels}")
    planned = plan(options)
    if options.html is not None:
        from ..viz.figures import blank_figure

        blank_figure((1, 1))  # a library that is missing is told now, not after an hour
    files = {f"--{name}": getattr(options, name) for name in ("json", "csv", "markdown", "html")}
    files = {name: path for name, path in files.items() if path is not None}
    if len(set(files.values())) < len(files):
        raise ValueError(f"{' and '.join(files)}: expected a file of its own for each")
    for name, path in files.items():
        make_folder_of(path, name)
    if options.cache is None and options.table is not None:
        options.cache = Path("rwpm-tables")
    if options.cache is not None:
        make_folder(options.cache, "--cache")
    if options.processes > 1 and not started():
        from . import main

        return launch(options.processes, main, options.typed)
    with of_torchrun() as processes:
        return _run(options, planned, processes)


def _run(options: argparse.Namespace, planned: Plan, processes: Processes) -> int:
    from ..evaluate.results import Outcome

    if processes.count > 1 and options.device == "cuda":
        options.device = f"cuda:{os.environ['LOCAL_RANK']}"
    lines, sweeps, networks = [], {}, {}
    for one in planned.runs:
        which = one.network, one.weights
        if which not in networks:
            networks.clear()  # one at a time, since they may be large
            networks[which] = load_network(options, *which)
        swept = sweeps[one.title] = _sweep(options, one, networks[which], processes)
        lines += _lines(one, swept)
    outcome = Outcome(
        title=planned.title,
        heading=planned.heading,
        columns=planned.columns,
        command=shlex.join(["rwpm-fast", *map(str, options.typed)]),
        settings=_settings(options, planned, processes),
        lines=lines,
        sweeps=sweeps,
        source=planned.source,
        notes=planned.notes,
    )
    _tell(options, planned, outcome, processes)
    return 1 if outcome.failures else 0


def _sweep(options: argparse.Namespace, one: Run, network: Any, processes: Processes) -> Sweep:
    from ..evaluate import sweep

    usual = [network.default_score]
    if options.method is None and options.table is None:
        usual += ["energy", "max_logit"]
    how = {"walk_values": options.walk_values, "walk_padding": options.walk_padding}
    return sweep(
        {row.label: row.scorer(network, **how) for row in one.rows},
        one.frames,
        scores=options.scores or list(dict.fromkeys(usual)),
        cache=options.cache,
        fpr_rule=options.fpr_rule,
        track=one.track,
        by_photo=options.html is not None,
        processes=processes,
        progress=(lambda frames: progress(frames, one.title)) if processes.first else iter,
        on_photo=_report_failure,
    )


def _lines(one: Run, swept: Sweep) -> list[Line]:
    from ..evaluate.results import Line

    rows = {row.label: row for row in one.rows}
    scores = list(dict.fromkeys(score for _, score in swept.results))  # one table after the other
    return [
        Line(
            dataset=one.title,
            label=label,
            score=score,
            settings=rows[label].settings,
            result=result,
            components=swept.components.get((label, score)),
            network_seconds=swept.network_seconds(label),
            walk_seconds=swept.walk_seconds(label),
            fps=swept.fps(label),
            published=rows[label].published,
        )
        for (label, score), result in sorted(swept.results.items(), key=lambda item: scores.index(item[0][1]))
    ]


def _report_failure(photo: Path, failure: str | None) -> None:
    if failure is not None:
        print(failure if str(photo) in failure else f"{photo}: {failure}", file=sys.stderr)


def _tell(options: argparse.Namespace, planned: Plan, outcome: Outcome, processes: Processes) -> None:
    """Print the table and write the files, in the first process; the report last, since it may fail by a photo."""
    if processes.first:
        print(outcome.markdown())
        for one in planned.runs:
            print(_photos(one, outcome.sweeps[one.title]))
        _warn_of_no_positives(options, planned, outcome)
        if options.json is not None:
            write_json(options.json, outcome.as_dict())
        for path, text in ((options.csv, outcome.csv()), (options.markdown, outcome.markdown())):
            if path is not None:
                write_text(path, text)
    if options.html is not None:
        from ..evaluate.report import render_report

        page = render_report(
            outcome,
            panels=options.panels,
            progress=(lambda photos: progress(photos, "draw")) if processes.first else iter,
        )
        if page is not None:
            write_text(options.html, page)


def _photos(one: Run, swept: Sweep) -> str:
    """How many photos were used, and what one took."""
    used = len(swept.used)
    text = f"{one.title}: {used} of {len(one.frames)} photos"
    if not used:
        return text
    label = one.rows[-1].label
    network, walk = swept.network_seconds(label), swept.walk_seconds(label)
    return f"{text}; median network {network:.3f} s, walk ({label}) {walk:.3f} s a photo"


def _settings(options: argparse.Namespace, planned: Plan, processes: Processes) -> dict[str, Any]:
    from torch import get_num_threads

    runs = []
    for one in planned.runs:
        dataset = one.dataset
        names = ("root", "layout", "protocol", "split") if dataset.benchmark is not None else ("root",)
        where = {"data": dataset.name, **{name: str(getattr(dataset, name)) for name in names}}
        runs.append({"title": one.title, "network": one.network, **where, "photos": len(one.frames)})
    return {
        "runs": runs,
        "preset": options.preset,
        "method": options.method,
        "walk_values": options.walk_values,
        "walk_padding": options.walk_padding,
        "device": options.device,
        "threads": get_num_threads(),
        "processes": processes.count,
    }


def _warn_of_no_positives(options: argparse.Namespace, planned: Plan, outcome: Outcome) -> None:
    for one in planned.runs:
        swept = outcome.sweeps[one.title]
        if swept.used and not any(result.positives for result in swept.results.values()):
            wanted = " or ".join(map(str, options.positive or [1]))
            way_out = f"labeled {wanted}; name the label value of anomalies with --positive"
            what = way_out if one.dataset.benchmark is None else f"an anomaly in {one.title}"
            print(f"no pixel is {what}", file=sys.stderr)
