"""The sub-command ``submit``.

Every file is written atomically. An interrupted run resumes: files of the same settings are kept.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.extras import require_extras
from ..io.files import make_folder
from ..io.progress import progress
from ..io.text import printable
from .datasets import add_dataset_options, open_dataset
from .loading import load_scorer
from .options import add_method_options, add_network_options, add_walk_options, method_files, warn_renamed
from .sharing import add_processes_option, check_processes, run_shared, shown_by_first

if TYPE_CHECKING:
    from ..data import Dataset
    from ..evaluate import Processes

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
        add_processes_option(target)
        add_network_options(target)
        add_method_options(target)
        add_walk_options(target)


def run(options: argparse.Namespace) -> int:
    require_extras("submit", "PIL.Image")
    check_processes(options)
    return _fishyscapes(options) if options.target == "fishyscapes" else _smiyc(options)


def _finish(processes: Processes, summary: str, failures: dict[Path, str]) -> int:
    """Print what was done and what failed, in the first process; return the exit status."""
    if processes.first:
        print(summary)
        for photo, reason in failures.items():
            print(printable(f"{photo}: {reason}"), file=sys.stderr)
    return 1 if failures else 0


def _fishyscapes(options: argparse.Namespace) -> int:
    from ..submission import find_inputs
    from ..submission.fishyscapes import check_fishyscapes

    inputs = find_inputs(options.input)
    check_fishyscapes(inputs, options.output, options.weights, *method_files(options).values())
    make_folder(options.output, "OUTPUT")
    return run_shared(_run_fishyscapes, options, inputs)


def _run_fishyscapes(options: argparse.Namespace, processes: Processes, inputs: dict[str, Path]) -> int:
    """Submit this process's share of the photos."""
    from ..submission import submit_fishyscapes

    scorer = load_scorer(options, _score(options), processes.first)
    if processes.first:  # the record of the settings comes before any result
        submit_fishyscapes(scorer, {}, options.output, force=options.force)
    processes.broadcast(None)
    shown = shown_by_first(processes, partial(progress, what="submit"))
    failed = submit_fishyscapes(scorer, dict(processes.shard(inputs.items())), options.output, progress=shown)
    failures = {photo: why for part in processes.all_gather([failed]) for photo, why in part.items()}
    summary = f"{len(inputs) - len(failures)} of {len(inputs)} photos are in {options.output}"
    return _finish(processes, summary, failures)


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


def _smiyc(options: argparse.Namespace) -> int:
    from ..data.checking import remarks
    from ..evaluate.distributed import writes
    from ..submission.smiyc import check_smiyc

    _take_old_method(options)
    if options.rescale == "spread":
        warn_renamed("--rescale spread", "--rescale equalize")
        options.rescale = "equalize"
    dataset = open_dataset(options)
    masks = options.masks is not None
    inputs = options.weights, *method_files(options).values()
    check_smiyc(dataset, options.outputs, options.name, *inputs, rescale=options.rescale, masks=masks)
    for remark in remarks(dataset, dataset.frames) if writes() else ():
        print(printable(remark), file=sys.stderr)
    make_folder(options.outputs, "OUTPUTS")
    return run_shared(_run_smiyc, options, dataset)


def _run_smiyc(options: argparse.Namespace, processes: Processes, dataset: Dataset) -> int:
    """Submit this process's share of the frames."""
    from ..submission import Submission, submit_smiyc
    from ..submission.smiyc import frames_to_fit

    scorer = load_scorer(options, _score(options), processes.first)

    def submit(frames: list, force: bool = False) -> Submission:
        return submit_smiyc(
            scorer,
            replace(dataset, frames=tuple(frames)),
            options.outputs,
            options.name,
            rescale=options.rescale,
            mask_threshold=options.masks,
            force=force,
            progress=shown_by_first(processes, partial(progress, what="submit")),
        )

    fitted = None
    if processes.first:  # the record, with the rescaling that all maps share, comes before the others begin
        masks = options.masks is not None
        settings = {"rescale": options.rescale, "masks": masks, "force": options.force}
        fitted = submit(frames_to_fit(dataset, options.outputs, options.name, **settings), options.force)
    processes.broadcast(None)
    submission = submit(processes.shard(dataset))
    if fitted is not None:
        submission.merge(fitted)
    merged = processes.broadcast(processes.reduce(submission))
    kept = len(dataset) - merged.written - len(merged.failures)
    summary = f"{merged.written} maps written to {merged.folder}, {kept} were there\n{merged.report.text()}"
    return _finish(processes, summary, merged.failures)
