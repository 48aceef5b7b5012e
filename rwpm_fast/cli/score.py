"""The sub-command ``score``.

Every file is written atomically. A photo that fails is reported, and the others still run.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.extras import require_extras
from ..io.files import make_folder
from ..io.outputs import check_outputs
from ..io.progress import print_above, progress
from ..io.text import printable
from .loading import load_scorer
from .options import add_method_options, add_network_options, add_walk_options, method_files
from .sharing import add_processes_option, check_processes, run_shared, shown_by_first

if TYPE_CHECKING:
    from ..evaluate import Processes
    from ..scoring.scorer import Scorer

SUMMARY = "Score photos: an anomaly map (.npy, float32) and a panel (.png) for each."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="photo, folder of photos, or glob pattern")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, made if missing")
    parser.add_argument("--score", help="anomaly score (default: the method's, or that of the network's authors)")
    parser.add_argument("--no-panel", action="store_true", help="write the .npy files only")
    add_processes_option(parser)
    add_network_options(parser)
    add_method_options(parser)
    add_walk_options(parser)


def run(options: argparse.Namespace) -> int:
    require_extras("score", "PIL.Image", *([] if options.no_panel else ["matplotlib.figure"]))
    check_processes(options)
    photos, failed = _find(options.photos)
    outputs = ((photo, file) for photo in photos for file in _files(photo, options))
    way_out = "give another --out, or --no-panel for the .npy files only; score photos of one name apart"
    check_outputs(outputs, [*photos, options.weights, *method_files(options).values()], way_out)
    make_folder(options.out, "--out")
    return run_shared(_run, options, photos, failed)


def _run(options: argparse.Namespace, processes: Processes, photos: list[Path], failed: int) -> int:
    """Score this process's share of the photos; ``failed`` arguments stood for none."""
    from ..scoring.failures import photo_failure

    scorer = load_scorer(options, options.score, processes.first)
    has_failed = []
    for photo in shown_by_first(processes, partial(progress, what="score"))(processes.shard(photos)):
        try:
            print_above(_score(scorer, photo, options))
            has_failed.append(False)
        except Exception as error:
            reason = photo_failure(error, photo, kinds=(ValueError, OSError))
            has_failed.append(True)
            print(printable(f"{photo}: {reason}"), file=sys.stderr)
    failed += sum(processes.all_gather(has_failed))
    if failed and processes.first:
        print(f"{failed} failed, see above; the others are in {options.out}", file=sys.stderr)
    return 1 if failed else 0


def _find(arguments: list[str]) -> tuple[list[Path], int]:
    """Find the photos behind the arguments, and count the arguments without any."""
    from ..evaluate.distributed import writes
    from ..io.images import ImageError, list_images
    from ..io.listing import unused_text

    photos: dict[Path, None] = {}
    unused: dict[Path, None] = {}
    errors = []
    for path in arguments:
        try:
            found = list_images(path)
            photos.update(dict.fromkeys(found.used))
            unused.update(dict.fromkeys(found.unused))
        except ImageError as error:
            errors.append(str(error))
    if not photos:
        raise ImageError("; ".join(errors))
    if not writes():
        return list(photos), len(errors)
    if left_out := unused.keys() - photos.keys():
        text = unused_text(sorted(left_out))
        print(printable(f"{text}; name a photo of another suffix itself"), file=sys.stderr)
    for message in errors:
        print(printable(message), file=sys.stderr)
    return list(photos), len(errors)


def _files(photo: Path, options: argparse.Namespace) -> list[Path]:
    """Return the files that a photo's results are written to: the map, and the panel if there is one."""
    suffixes = [".npy"] if options.no_panel else [".npy", ".png"]
    return [options.out / f"{photo.stem}{suffix}" for suffix in suffixes]


def _score(scorer: Scorer, path: Path, options: argparse.Namespace) -> str:
    """Score one photo and write its files; return a line about it."""
    import numpy as np
    import torch

    from ..io.files import atomic_write
    from ..io.images import read_image

    photo = read_image(path, upright=True)
    analysis = scorer.analyze(photo)
    with torch.inference_mode():
        after = analysis.walked.score(scorer.score).cpu().numpy()
        walks = scorer.walk is not None and not options.no_panel
        before = analysis.plain.score(scorer.score).cpu().numpy() if walks else None
    out, *panel_file = _files(path, options)
    atomic_write(out, lambda file: np.save(file, after))
    if panel_file:
        from ..viz.figures import figure_bytes, panel, score_panel

        figure = score_panel(photo, after, title=scorer.score) if before is None else panel(photo, before, after)
        picture = figure_bytes(figure)
        atomic_write(panel_file[0], lambda file: file.write(picture))
    height, width = photo.shape[:2]
    rows, columns = analysis.embedding_map.shape[-2:]
    times = {"network": analysis.network_seconds, "chain": analysis.chain_seconds, "walk": analysis.walk_seconds}
    if options.method is None:
        del times["chain"]
    told = "  ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in times.items())
    return printable(f"{path.name}  {width}x{height}, map {columns}x{rows}  {told}  {out}")
