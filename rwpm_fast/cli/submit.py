"""The sub-command ``submit``.

Every file is written atomically. An interrupted run resumes: files of the same settings are kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..io.extras import require_extras
from ..io.files import make_folder
from ..io.progress import progress
from ..io.text import printable
from .datasets import add_dataset_options, open_dataset
from .loading import load_scorer
from .options import add_network_options, add_walk_options, warn_renamed

SUMMARY = "Score photos into the files that the servers and toolkits of Fishyscapes and SegmentMeIfYouCan read."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    targets = parser.add_subparsers(dest="target", required=True, metavar="TARGET")
    text = "DDDD_anomaly.npy and DDDD_segmentation.npy for each DDDD_*.png"
    fishyscapes = targets.add_parser("fishyscapes", help=text, description=text)
    fishyscapes.add_argument("input", type=Path, metavar="INPUT", help="folder of photos DDDD_*.png")
    fishyscapes.add_argument("output", type=Path, metavar="OUTPUT", help="folder for the results, made if missing")
    text = "float16 HDF5 files under OUTPUTS/anomaly_p/METHOD"
    smiyc = targets.add_parser("smiyc", help=text, description=text)
    add_dataset_options(smiyc, positional=True)
    smiyc.add_argument("outputs", type=Path, metavar="OUTPUTS", help="folder for the results, made if missing")
    smiyc.add_argument("--method", required=True, help="name of the method in the toolkit")
    smiyc.add_argument(
        "--rescale", default="equalize", help="equalize scores over float16's numbers, or none (default: %(default)s)"
    )
    smiyc.add_argument("--masks", type=float, metavar="THRESHOLD", help="also write masks of the scores above it")
    for target in (fishyscapes, smiyc):
        target.add_argument("--score", default="energy", help="anomaly score (default: %(default)s)")
        target.add_argument("--force", action="store_true", help="delete earlier results and score all photos again")
        add_network_options(target)
        add_walk_options(target)


def run(options: argparse.Namespace) -> int:
    require_extras("submit", "PIL.Image")
    failures = _fishyscapes(options) if options.target == "fishyscapes" else _smiyc(options)
    for photo, reason in failures.items():
        print(printable(f"{photo}: {reason}"), file=sys.stderr)
    return 1 if failures else 0


def _fishyscapes(options: argparse.Namespace) -> dict[Path, str]:
    from ..submission import find_inputs, submit_fishyscapes
    from ..submission.fishyscapes import check_fishyscapes

    inputs = find_inputs(options.input)
    check_fishyscapes(inputs, options.output, options.weights)
    make_folder(options.output, "OUTPUT")
    scorer = load_scorer(options, options.score)
    failures = submit_fishyscapes(
        scorer, inputs, options.output, force=options.force, progress=lambda items: progress(items, "submit")
    )
    print(f"{len(inputs) - len(failures)} of {len(inputs)} photos are in {options.output}")
    return failures


def _smiyc(options: argparse.Namespace) -> dict[Path, str]:
    from ..data.checking import remarks
    from ..submission import submit_smiyc
    from ..submission.smiyc import check_smiyc

    rescale = options.rescale
    if rescale == "spread":
        warn_renamed("--rescale spread", "--rescale equalize")
        rescale = "equalize"
    dataset = open_dataset(options)
    masks = options.masks is not None
    check_smiyc(dataset, options.outputs, options.method, options.weights, rescale=rescale, masks=masks)
    for remark in remarks(dataset, dataset.frames):
        print(printable(remark), file=sys.stderr)
    make_folder(options.outputs, "OUTPUTS")
    submission = submit_smiyc(
        load_scorer(options, options.score),
        dataset,
        options.outputs,
        options.method,
        rescale=rescale,
        mask_threshold=options.masks,
        force=options.force,
        progress=lambda items: progress(items, "submit"),
    )
    print(f"{submission.written} maps written to {submission.folder}, {submission.kept} were there")
    print(submission.report.text())
    return submission.failures
