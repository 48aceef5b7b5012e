"""The sub-command ``temporal``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.arguments import non_default_args
from ..io.extras import require_extras
from ..io.files import make_folder_of, write_json, write_text
from ..io.outputs import check_outputs
from ..io.progress import progress
from .datasets import add_dataset_options, open_dataset
from .loading import load_scorer
from .options import add_network_options, add_walk_options

if TYPE_CHECKING:
    from ..evaluate.temporal import FrameSequence, TemporalRow

SUMMARY = "Along sequences, without and with the walk: how steady score maps are, and their accuracy as they arrive."

DRIVE_OPTIONS: dict[str, Any] = {"drives": 4, "frames": 24, "size": (256, 512), "speed": 8.0, "crossing": False}
DRIVE_RATE, DATASET_RATE = 12.0, 25.0  # frames per second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_options(parser, positional=True, optional=True)
    group = parser.add_argument_group("rendered drives, in place of a data set of sequences")
    group.add_argument("--drives", type=int, metavar="N", help="how many (default: 4)")
    group.add_argument("--frames", type=int, metavar="N", help="of each (default: 24)")
    group.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the frames (default: 256 512)")
    group.add_argument("--speed", type=float, metavar="V", help="of the camera in meters per second (default: 8)")
    group.add_argument("--crossing", action="store_true", default=None, help="let an unknown object cross the road")
    group = parser.add_argument_group("what to measure")
    group.add_argument(
        "--rate", type=float, help="frames per second (default: 12 of drives, 25 of data sets, as SOS has)"
    )
    group.add_argument("--limit", type=int, metavar="N", help="the first N sequences of the data set only")
    group.add_argument("--scores", nargs="+", help="(default: that of the network's authors)")
    group.add_argument(
        "--cost", type=float, metavar="SECONDS", help="that a frame takes (default: timed here on the first frame)"
    )
    group.add_argument(
        "--share", type=float, default=0.01, help="of a frame's pixels in the masks compared (default: %(default)s)"
    )
    group.add_argument("--fpr-rule", default="fishyscapes", help="how FPR95 is read (default: %(default)s)")
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE")
    add_network_options(parser, sized=False)
    add_walk_options(parser)
    parser.set_defaults(method=None)


def run(options: argparse.Namespace) -> int:
    if (options.dataset is None) != (options.root is None):
        raise ValueError("expected NAME and ROOT of a data set, or neither for rendered drives")
    if options.rate is not None and not options.rate > 0:
        raise ValueError(f"--rate: expected more than 0 frames per second, got {options.rate}")
    require_extras("temporal", *([] if options.dataset is None else ["PIL.Image", "cv2"]))
    outputs = [(name, file) for name, file in (("--json", options.json), ("--markdown", options.markdown)) if file]
    check_outputs(outputs, [options.weights], "give each a file of its own")
    sequences = _sequences(options)
    for name, file in outputs:
        make_folder_of(file, name)

    from ..benchmark import machine
    from ..evaluate.runner import without_and_with
    from ..evaluate.temporal import measure_temporal, temporal_record, temporal_table

    scorer = load_scorer(options)
    for name in options.scores or []:
        try:
            scorer.check_score(name)
        except ValueError as error:
            raise ValueError(f"--scores: {str(error).partition(': ')[2]}") from error
    rows = measure_temporal(
        without_and_with(scorer),
        sequences,
        options.scores or [scorer.score],
        cost=options.cost,
        share=options.share,
        fpr_rule=options.fpr_rule,
        progress=lambda items: progress(items, "temporal", "sequence"),
    )
    table = temporal_table(rows)
    if options.json is not None:
        arguments = non_default_args(options, add_arguments, positional=["dataset", "root"])
        record = {
            "command": shlex.join(["rwpm-fast", "temporal", *arguments]),
            "commit": machine.commit(),
            "machine": machine.facts(),
            "network": scorer.network.name,
            "sequences": [sequence.name for sequence in sequences],
            "rows": temporal_record(rows),
        }
        write_json(options.json, record)
    if options.markdown is not None:
        write_text(options.markdown, f"{table}\n")
    print(table)
    _print_counts(rows)
    return 0


def _sequences(options: argparse.Namespace) -> list[FrameSequence]:
    """Make the sequences that the options describe, which are rendered or read later.

    Raises:
        ValueError: options that do not go together, or outside their range.
        ImageError: a data set that is not found, or lacks files.
    """
    of_drives = {name: getattr(options, name) for name in DRIVE_OPTIONS}
    of_datasets = ("protocol", "split", "layout", "source", "orientation", "limit")
    if options.dataset is None:
        if given := [name for name in of_datasets if getattr(options, name) is not None]:
            raise ValueError(f"--{given[0]}: of a data set; give its NAME and ROOT")
        from ..evaluate.temporal import drive_sequence

        chosen = {name: DRIVE_OPTIONS[name] if value is None else value for name, value in of_drives.items()}
        if chosen["drives"] < 1:
            raise ValueError(f"--drives: expected 1 or more, got {chosen['drives']}")
        if chosen["frames"] < 2:
            raise ValueError(f"--frames: expected 2 or more, to be compared with one another, got {chosen['frames']}")
        rest: dict[str, Any] = {
            "speed": chosen["speed"],
            "crossing": chosen["crossing"],
            "rate": options.rate or DRIVE_RATE,
        }
        size = tuple(chosen["size"])
        return [drive_sequence(seed, chosen["frames"], size, **rest) for seed in range(chosen["drives"])]
    if given := [name for name, value in of_drives.items() if value is not None]:
        raise ValueError(f"--{given[0]}: of rendered drives, not of a data set")
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit: expected 1 or more sequences, got {options.limit}")
    from ..evaluate.temporal import photo_sequence

    dataset = open_dataset(options)
    dataset.require_complete()
    grouped = list(dataset.sequences().items())[: options.limit]
    return [photo_sequence(name or dataset.name, frames, options.rate or DATASET_RATE) for name, frames in grouped]


def _print_counts(rows: list[TemporalRow]) -> None:
    """Say over what the numbers are, and in how many sequences the walk makes maps steadier."""
    from ..evaluate.temporal import steadier_sequences

    first = rows[0]
    late = first.streaming
    print(
        f"{len(first.each)} sequences, {late.frames} frames, {late.answered + late.unanswered} with labels, of which "
        f"{late.unanswered} came before the first map of their sequence"
    )
    by_score = {(row.scorer, row.score): row for row in rows}
    for (name, score), row in by_score.items():
        if name == "with":
            steadier, known = steadier_sequences(by_score["without", score], row)
            print(f"{score}: maps change less with the walk in {steadier} of {known} sequences")
    if not first.instant.positives:
        print("no pixel is an anomaly, so that accuracy means nothing", file=sys.stderr)
