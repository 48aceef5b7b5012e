"""Pooled AuROC, AP and FPR95 on labelled photos, without and with the walk, or as a table of the RWPM supplement."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .datasets import add_dataset_options, open_dataset
from .options import (
    add_network_options,
    add_walk_options,
    given_walk_settings,
    load_network,
    load_scorer,
    make_folder,
    make_folder_of,
    progress,
    scorer_settings,
    walk_settings,
    write_json,
)

if TYPE_CHECKING:
    from ..data import Dataset, Frame
    from ..metrics import PixelResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_options(parser, positional=False)
    group = parser.add_argument_group("photos and labels of any two folders, in place of a data set")
    group.add_argument("--images", type=Path, help="folder of photos")
    group.add_argument("--labels", type=Path, help="folder of label PNGs with the photos' stems")
    group.add_argument("--positive", type=int, nargs="+", help="label values of anomalies (default: 1)")
    group.add_argument("--negative", type=int, nargs="+", help="label values of inliers (default: 0)")
    parser.add_argument("--photos", type=int, metavar="N", help="the first N photos only")
    parser.add_argument(
        "--preset", help="published settings of the walk: paper, or released with its T + 1 transitions; others replace"
    )
    parser.add_argument("--method", help="whose settings, where the network is none of the published methods")
    parser.add_argument(
        "--components",
        nargs="?",
        const="",
        metavar="TRACK",
        help="component metrics of SegmentMeIfYouCan too, with the size limits of a track (default: the data set's)",
    )
    parser.add_argument(
        "--scores",
        nargs="+",
        help="(default: the network's own, energy, max_logit; its own for a table)",
    )
    parser.add_argument("--fpr-rule", default="fishyscapes", help="how FPR95 is read (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    group = parser.add_argument_group("tables of the RWPM supplement, and component metrics")
    group.add_argument(
        "--table", metavar="NAME", help="S3 or S4: the walks of its rows; walk options replace the table's settings"
    )
    group.add_argument(
        "--cache",
        type=Path,
        default=Path("rwpm-tables"),
        metavar="DIR",
        help="folder for what each photo gave, from which an interrupted run goes on (default: %(default)s)",
    )
    add_network_options(parser)
    add_walk_options(parser)


def run(options: argparse.Namespace) -> int:
    if options.photos is not None and options.photos < 1:
        raise ValueError(f"--photos: expected 1 or more, got {options.photos}")
    if options.table is not None and (options.preset is not None or options.components is not None):
        raise ValueError("--table: has settings and columns of its own; leave --preset and --components out")
    dataset = _dataset(options)
    frames = dataset.frames[: options.photos]
    if options.preset is not None:
        _apply_preset(options, dataset)
    if options.json is not None:
        make_folder_of(options.json, "--json")
    return _evaluate(options, dataset, frames) if options.table is None else _table(options, dataset, frames)


def _dataset(options: argparse.Namespace) -> Dataset:
    """The data set, or the two folders, that the options name."""
    from ..data import folders

    named = options.dataset is not None or options.root is not None
    wanted, others = ("dataset", "root"), ("images", "labels", "positive", "negative")
    if not named:
        wanted, others = ("images", "labels"), ("split", "layout", "source")
    if any(getattr(options, name) is None for name in wanted):
        raise ValueError("expected --dataset and --root, or --images and --labels")
    if ignored := [f"--{name}" for name in others if getattr(options, name) is not None]:
        raise ValueError(f"{', '.join(ignored)}: not with --{wanted[0]} and --{wanted[1]}")
    if not named:
        values = {"positive": options.positive or [1], "negative": options.negative or [0]}
        return folders(options.images, options.labels, photos=options.photos, **values)
    dataset = open_dataset(options)
    dataset.require_complete()
    if unlabelled := sum(frame.label is None for frame in dataset):
        raise ValueError(
            f"--split: {unlabelled} of {len(dataset)} frames of {dataset.split} have no labels to evaluate with"
        )
    return dataset


def _apply_preset(options: argparse.Namespace, dataset: Dataset) -> None:
    """Fill the walk options that were not typed with a published row."""
    from ..presets import METHODS, preset

    if options.preset not in ("paper", "released"):
        raise ValueError(f"--preset: expected paper or released, got {options.preset!r}")
    benchmark = None if dataset.benchmark is None else dataset.benchmark.preset
    if benchmark is None:
        raise ValueError(f"--preset: nothing is published for {dataset.name}; give the walk's settings one by one")
    options.method = options.method or options.network
    if options.method not in METHODS:
        raise ValueError(
            f"--preset: nothing is published for {options.method}; choose --method of {', '.join(METHODS)}"
        )
    row = preset(options.method, benchmark)
    for name, value in asdict(row.released() if options.preset == "released" else row).items():
        if name == "calibrated":
            options.calibrate |= value
        elif getattr(options, name) is None:
            setattr(options, name, value)


def _track(options: argparse.Namespace, dataset: Dataset) -> str:
    """The track of the component metrics."""
    from ..metrics import TRACKS

    track = options.components or (dataset.benchmark and dataset.benchmark.track)
    if track not in TRACKS:
        given = f"got {track!r}" if track else f"and {dataset.name} has none of its own"
        raise ValueError(f"--components: expected a track of {', '.join(TRACKS)}, {given}")
    return track


def _evaluate(options: argparse.Namespace, dataset: Dataset, frames: Sequence[Frame]) -> int:
    from ..evaluate import evaluate
    from ..sweep import evaluate_kept

    scorer = load_scorer(options)
    scores = options.scores or list(dict.fromkeys([scorer.score, "energy", "max_logit"]))
    shared = {"scores": scores, **_pooling(options)}
    if options.components is None:
        evaluation = evaluate(scorer, progress(frames, "evaluate"), **shared)
    else:
        track = _track(options, dataset)
        make_folder(options.cache, "--cache")
        evaluation = evaluate_kept(scorer, progress(frames, "evaluate"), options.cache, track=track, **shared)
    heads = ["score", "walk", "AuROC", "AP", "FPR95", *(["sIoU", "PPV", "mean F1"] if evaluation.components else [])]
    lines = [heads, ["---"] * len(heads)]
    for key, result in evaluation.results.items():
        numbers = [result.auroc, result.ap, result.fpr95]
        if found := evaluation.components.get(key):
            numbers += [found.siou, found.ppv, found.f1]
        lines.append([*key, *(f"{100 * number:.2f}" for number in numbers)])
    print("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    _warn_of_no_positives(options, dataset, evaluation.results.values())
    used = len(frames) - len(evaluation.failures)
    print(f"\n{used} of {len(frames)} photos", end="")
    if used:
        times = median(evaluation.network_seconds), median(evaluation.walk_seconds)
        print("; median network {:.3f} s, walk {:.3f} s a photo".format(*times), end="")
    print()
    if options.json:
        settings = _settings(options, dataset) | walk_settings(options)
        write_json(options.json, {"settings": settings, **evaluation.as_dict()})
    return 1 if evaluation.failures else 0


def _table(options: argparse.Namespace, dataset: Dataset, frames: Sequence[Frame]) -> int:
    from .. import tables
    from ..scorer import Scorer
    from ..sweep import sweep

    table = tables.get(options.table)
    common = {"tolerance": walk_settings(options)["tolerance"], **given_walk_settings(options)}
    settings = table.row_settings(**common)
    walks = [tables.walk_of(row) for row in settings]
    make_folder(options.cache, "--cache")
    network = load_network(options)
    scores = options.scores or [network.default_score]
    swept = sweep(
        [Scorer(network, walk=walk, **scorer_settings(options)) for walk in walks],
        progress(frames, f"table {options.table}"),
        options.cache,
        scores=scores,
        **_pooling(options),
    )

    rows = []
    for (index, score), result in swept.results.items():
        row = table.rows[index]
        rows.append(
            {
                "label": row.label,
                "score": score,
                "walk": settings[index],
                "published": dict(zip(table.columns, row.published, strict=True)),
                **vars(result),
                "network_seconds_median": swept.network_seconds(index),
                "walk_seconds_median": swept.walk_seconds(index),
                "fps": swept.fps(index),
            }
        )
    walked = ", ".join(f"{name} {value}" for name, value in {**table.settings, **common}.items())
    for score in scores:
        print(f"Table {table.title}\n{options.network}, {score}, {walked}")
        print(f"published: {table.source}, for orientation\n")
        print("\n".join(_markdown(table, [row for row in rows if row["score"] == score])), end="\n\n")
    _warn_of_no_positives(options, dataset, swept.results.values())
    print(f"{len(frames) - len(swept.failures)} of {len(frames)} photos")
    if options.json:
        failures = {str(path): reason for path, reason in swept.failures.items()}
        write_json(
            options.json,
            {
                "table": options.table,
                "source": table.source,
                "settings": _settings(options, dataset),
                "rows": rows,
                "failures": failures,
            },
        )
    return 1 if swept.failures else 0


def _markdown(table, rows: list[dict]) -> list[str]:
    """Lines of a table of rows: our figures, then the published ones."""
    timed = "FPS" in table.columns
    heads = [table.heading, *table.columns, *(["walk alone, FPS"] if timed else [])]
    heads += [f"published {column}" for column in table.columns]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        ours = {"AP": 100 * row["ap"], "FPR95": 100 * row["fpr95"], "FPS": row["fps"]}
        figures = [ours[column] for column in table.columns]
        if timed:
            figures.append(1 / row["walk_seconds_median"] if row["walk"] else float("nan"))
        lines.append([row["label"], *(f"{figure:.2f}" for figure in [*figures, *row["published"].values()])])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _pooling(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments that ``evaluate`` and ``sweep`` share."""
    return {
        "fpr_rule": options.fpr_rule,
        "on_photo": lambda photo, failure: failure and print(f"{photo}: {failure}", file=sys.stderr),
    }


def _settings(options: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    from torch import get_num_threads

    if dataset.benchmark is None:
        photos = {"images": str(options.images)}
    else:
        names = ("root", "layout", "protocol", "split")
        photos = {"dataset": dataset.name, **{name: str(getattr(dataset, name)) for name in names}}
    preset = {} if options.preset is None else {"preset": options.preset, "method": options.method}
    return {
        "network": options.network,
        **photos,
        **preset,
        "walk_values": options.walk_values,
        "walk_padding": options.walk_padding,
        "calibrate": options.calibrate,
        "device": options.device,
        "threads": get_num_threads(),
    }


def _warn_of_no_positives(options: argparse.Namespace, dataset: Dataset, results: Collection[PixelResult]) -> None:
    if results and not any(result.positives for result in results):
        wanted = " or ".join(map(str, options.positive or [1]))
        way_out = f"labelled {wanted}; name the label value of anomalies with --positive"
        print(f"no pixel is {way_out if dataset.benchmark is None else 'an anomaly'}", file=sys.stderr)
