"""Pooled AuROC, AP and FPR95 on labelled photos, without and with the walk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

from .options import add_network_options, add_walk_options, load_scorer, progress, walk_settings, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--labels", type=Path, required=True, help="folder of label PNGs with the photos' stems")
    parser.add_argument("--positive", type=int, nargs="+", default=[1], help="label values of anomalies (default: 1)")
    parser.add_argument("--negative", type=int, nargs="+", default=[0], help="label values of inliers (default: 0)")
    parser.add_argument("--scores", nargs="+", default=["energy", "max_logit"], help="(default: energy max_logit)")
    parser.add_argument("--fpr-rule", default="fishyscapes", help="how FPR95 is read (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    add_network_options(parser, required=True)
    add_walk_options(parser)


def run(options: argparse.Namespace) -> int:
    from ..evaluate import evaluate
    from ..images import find_photos, pair_labels

    pairs = pair_labels(find_photos(options.images), options.labels)
    scorer = load_scorer(options)
    evaluation = evaluate(
        scorer,
        progress(pairs, "evaluate"),
        scores=options.scores,
        positive=options.positive,
        negative=options.negative,
        fpr_rule=options.fpr_rule,
        on_photo=lambda photo, failure: failure and print(f"{photo}: {failure}", file=sys.stderr),
    )
    print("| score | walk | AuROC | AP | FPR95 |")
    print("|---|---|---|---|---|")
    for (score, walk), result in evaluation.results.items():
        print(f"| {score} | {walk} | {result.auroc:.2%} | {result.ap:.2%} | {result.fpr95:.2%} |".replace("%", ""))
    if evaluation.results and not any(result.positives for result in evaluation.results.values()):
        wanted = " or ".join(map(str, options.positive))
        print(f"no pixel is labelled {wanted}; name the label value of anomalies with --positive", file=sys.stderr)
    used = len(pairs) - len(evaluation.failures)
    print(f"\n{used} of {len(pairs)} photos", end="")
    if used:
        times = median(evaluation.network_seconds), median(evaluation.walk_seconds)
        print("; median network {:.3f} s, walk {:.3f} s a photo".format(*times), end="")
    print()
    if options.json:
        settings = {"network": options.network, "images": str(options.images), **walk_settings(options)}
        write_json(options.json, {"settings": settings, **evaluation.as_dict()})
    return 1 if evaluation.failures else 0
