"""Pooled AuROC, AP and FPR95 on labelled photos, without and with the walk, or as a table of the RWPM supplement."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .options import (
    add_network_options,
    add_walk_options,
    given_walk_settings,
    load_network,
    load_scorer,
    make_folder,
    progress,
    walk_settings,
    write_json,
)

if TYPE_CHECKING:
    from ..metrics import PixelResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--labels", type=Path, required=True, help="folder of label PNGs with the photos' stems")
    parser.add_argument("--photos", type=int, metavar="N", help="the first N photos only")
    parser.add_argument("--positive", type=int, nargs="+", default=[1], help="label values of anomalies (default: 1)")
    parser.add_argument("--negative", type=int, nargs="+", default=[0], help="label values of inliers (default: 0)")
    parser.add_argument(
        "--scores",
        nargs="+",
        help="(default: the network's own, energy, max_logit; its own for a table)",
    )
    parser.add_argument("--fpr-rule", default="fishyscapes", help="how FPR95 is read (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    group = parser.add_argument_group("table of the RWPM supplement")
    group.add_argument(
        "--table", metavar="NAME", help="S3 or S4: the walks of its rows; walk options replace the table's settings"
    )
    group.add_argument(
        "--cache",
        type=Path,
        default=Path("rwpm-tables"),
        metavar="DIR",
        help="folder for what each photo gave, from which an interrupted table goes on (default: %(default)s)",
    )
    add_network_options(parser, required=True)
    add_walk_options(parser)


def run(options: argparse.Namespace) -> int:
    from ..images import find_photos, pair_labels

    if options.photos is not None and options.photos < 1:
        raise ValueError(f"--photos: expected 1 or more, got {options.photos}")
    pairs = pair_labels(find_photos(options.images)[: options.photos], options.labels)
    return _evaluate(options, pairs) if options.table is None else _table(options, pairs)


def _evaluate(options: argparse.Namespace, pairs: list[tuple[Path, Path]]) -> int:
    from ..evaluate import evaluate

    scorer = load_scorer(options)
    scores = options.scores or list(dict.fromkeys([scorer.score, "energy", "max_logit"]))
    evaluation = evaluate(scorer, progress(pairs, "evaluate"), scores=scores, **_pooling(options))
    print("| score | walk | AuROC | AP | FPR95 |")
    print("|---|---|---|---|---|")
    for (score, walk), result in evaluation.results.items():
        print(f"| {score} | {walk} | {result.auroc:.2%} | {result.ap:.2%} | {result.fpr95:.2%} |".replace("%", ""))
    _warn_of_no_positives(options, evaluation.results.values())
    used = len(pairs) - len(evaluation.failures)
    print(f"\n{used} of {len(pairs)} photos", end="")
    if used:
        times = median(evaluation.network_seconds), median(evaluation.walk_seconds)
        print("; median network {:.3f} s, walk {:.3f} s a photo".format(*times), end="")
    print()
    if options.json:
        write_json(options.json, {"settings": _settings(options) | walk_settings(options), **evaluation.as_dict()})
    return 1 if evaluation.failures else 0


def _table(options: argparse.Namespace, pairs: list[tuple[Path, Path]]) -> int:
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
        [Scorer(network, walk=walk, walk_values=options.walk_values, calibrated=options.calibrate) for walk in walks],
        progress(pairs, f"table {options.table}"),
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
    _warn_of_no_positives(options, swept.results.values())
    print(f"{len(pairs) - len(swept.failures)} of {len(pairs)} photos")
    if options.json:
        failures = {str(path): reason for path, reason in swept.failures.items()}
        write_json(
            options.json,
            {
                "table": options.table,
                "source": table.source,
                "settings": _settings(options),
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
        "positive": options.positive,
        "negative": options.negative,
        "fpr_rule": options.fpr_rule,
        "on_photo": lambda photo, failure: failure and print(f"{photo}: {failure}", file=sys.stderr),
    }


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    from torch import get_num_threads

    names = {"network": options.network, "images": str(options.images), "walk_values": options.walk_values}
    return {**names, "device": options.device, "threads": get_num_threads()}


def _warn_of_no_positives(options: argparse.Namespace, results: Collection[PixelResult]) -> None:
    if results and not any(result.positives for result in results):
        wanted = " or ".join(map(str, options.positive))
        print(f"no pixel is labelled {wanted}; name the label value of anomalies with --positive", file=sys.stderr)
