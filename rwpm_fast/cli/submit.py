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
from .options import add_method_options, add_network_options, add_walk_options, method_files, warn_renamed

SUMMARY = "Score photos into the files that the servers and toolkits of Fishyscapes and SegmentMeIfYouCan read."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    targets = parser.add_subparsers(dest="target", required=True, metavar="TARGET")
    text = "DDDD_anomaly.npy and DDDD_segmentation.npy for each DDDD_*.png"
    fishyscapes = targets.add_parser("fishyscapes", help=text, description=text)
    fishyscapes.add_argument("input", type=Path, metavar="INPUT", help="folder of photos DDDD_*.png")
    fishyscapes.add_argument("output", type=Path, metavar="OUTPUT", help="folder for the results, made if missing")
    text = "float16 HDF5 files under OUTPUTS/anomaly_p/NAME"
    smiyc = targets.add_parser("smiyc", help=text, description=text)
    add_dataset_options(smiyc, positional=True)
    smiyc.add_argument("outputs", type=Path, metavar="OUTPUTS", help="folder for the results, made if missing")
    smiyc.add_argument("--name", help="name of the method in the toolkit; required")
    smiyc.add_argument(
        "--rescale", default="equalize", help="equalize scores over float16's numbers, or none (default: %(default)s)"
    )
    smiyc.add_argument("--masks", type=float, metavar="THRESHOLD", help="also write masks of the scores above it")
    for target in (fishyscapes, smiyc):
        target.add_argument("--score", help="anomaly score (default: energy, or that of --method)")
        target.add_argument("--force", action="store_true", help="delete earlier results and score all photos again")
        add_network_options(target)
        add_method_options(target)
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
    check_fishyscapes(inputs, options.output, options.weights, *method_files(options).values())
    make_folder(options.output, "OUTPUT")
    scorer = load_scorer(options, _score(options))
    failures = submit_fishyscapes(
        scorer, inputs, options.output, force=options.force, progress=lambda items: progress(items, "submit")
    )
    print(f"{len(inputs) - len(failures)} of {len(inputs)} photos are in {options.output}")
    return failures


def _score(options: argparse.Namespace) -> str | None:
    """Return the name of the score; None for that of the method."""
    return "energy" if options.score is None and options.method is None else options.score


def _take_old_method(options: argparse.Namespace) -> None:
    """Take what is no method of scoring for the name in the toolkit, which was called ``--method`` once."""
    from ..synboost.methods import METHODS

    if options.name is None and options.method not in (None, *METHODS):
        warn_renamed(f"--method {options.method}", f"--name {options.method}")
        options.name, options.method = options.method, None
    if options.name is None:
        raise ValueError("--name: expected the name of the method in the toolkit, got none")


def _smiyc(options: argparse.Namespace) -> dict[Path, str]:
    from ..data.checking import remarks
    from ..submission import submit_smiyc
    from ..submission.smiyc import check_smiyc

    _take_old_method(options)
    rescale = options.rescale
    if rescale == "spread":
        warn_renamed("--rescale spread", "--rescale equalize")
        rescale = "equalize"
    dataset = open_dataset(options)
    masks = options.masks is not None
    inputs = options.weights, *method_files(options).values()
    check_smiyc(dataset, options.outputs, options.name, *inputs, rescale=rescale, masks=masks)
    for remark in remarks(dataset, dataset.frames):
        print(printable(remark), file=sys.stderr)
    make_folder(options.outputs, "OUTPUTS")
    submission = submit_smiyc(
        load_scorer(options, _score(options)),
        dataset,
        options.outputs,
        options.name,
        rescale=rescale,
        mask_threshold=options.masks,
        force=options.force,
        progress=lambda items: progress(items, "submit"),
    )
    print(f"{submission.written} maps written to {submission.folder}, {submission.kept} were there")
    print(submission.report.text())
    return submission.failures
