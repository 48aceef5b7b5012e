"""Submissions to the Fishyscapes server: an anomaly map and a segmentation per photo, as NumPy files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ..io.arrays import as_array
from ..io.files import atomic_write
from ..io.images import ImageError, read_image
from ..io.outputs import check_outputs
from ..scoring.failures import photo_failure
from ..scoring.scorer import Scorer
from .manifest import open_manifest, settings_of, write_manifest

CLASSES = 20  # values that the server accepts in a segmentation: 0..19
_INPUT = re.compile(r"(\d{4})_.*\.png")


def find_inputs(folder: Path) -> dict[str, Path]:
    """Find the photos ``DDDD_*.png`` of a folder.

    Args:
        folder: where to look.

    Returns:
        Four digits to photo, in order.

    Raises:
        ImageError: no such folder, no such photo, or two photos of one number.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if match := _INPUT.fullmatch(path.name):
            if match[1] in found:
                raise ImageError(f"{found[match[1]]} and {path}: two photos of the number {match[1]}")
            found[match[1]] = path
    if not found:
        raise ImageError(f"{folder}: no photos named DDDD_*.png, D a digit")
    return found


def result_paths(folder: Path, number: str) -> tuple[Path, Path]:
    """Return the paths of a photo's anomaly map and segmentation."""
    return folder / f"{number}_anomaly.npy", folder / f"{number}_segmentation.npy"


def check_fishyscapes(inputs: Mapping[str, Path], output: Path, *others: Path | None) -> None:
    """Check that no result replaces a photo, or another file that is read.

    Args:
        inputs: four digits to photo.
        output: folder for the files.
        others: files that are read, such as weights.

    Raises:
        OutputError: a result would.
    """
    files = [(photo, file) for number, photo in inputs.items() for file in result_paths(output, number)]
    check_outputs([*files, ("the record", _manifest(output))], [*inputs.values(), *others], "give another folder")


def _manifest(folder: Path) -> Path:
    return folder / "submission.json"


def write_result(folder: Path, number: str, score: np.ndarray, segmentation: np.ndarray) -> None:
    """Write a photo's two files, each atomically.

    Args:
        folder: must exist.
        number: the photo's four digits.
        score: [H, W] floating point, higher = more anomalous; written as float32.
        segmentation: [H, W] integer class in 0..19; written as uint8.

    Raises:
        ValueError: shapes differ, a score is NaN, or a class out of range. Nothing is written then.
        OSError: the folder cannot be written.
    """
    score, segmentation = as_array("score", score), as_array("segmentation", segmentation)
    if score.ndim != 2 or segmentation.shape != score.shape:
        raise ValueError(
            f"score, segmentation: expected [H, W] both, got {list(score.shape)}, {list(segmentation.shape)}"
        )
    if unranked := int(np.isnan(score).sum()):
        raise ValueError(f"score: NaN at {unranked} pixels")
    if segmentation.min() < 0 or segmentation.max() >= CLASSES:
        raise ValueError(f"segmentation: expected 0..19, got {segmentation.min()}..{segmentation.max()}")
    anomaly_path, segmentation_path = result_paths(folder, number)
    atomic_write(segmentation_path, lambda file: np.save(file, segmentation.astype(np.uint8)))
    atomic_write(anomaly_path, lambda file: np.save(file, score.astype(np.float32)))


def submit_fishyscapes(
    scorer: Scorer,
    inputs: dict[str, Path],
    output: Path,
    *,
    force: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[Path, str]:
    """Score photos and write their files; photos that have their files already are skipped.

    The settings behind the files are recorded in ``submission.json`` in the same folder.

    Args:
        scorer: network, walk and score.
        inputs: four digits to photo; see :func:`find_inputs`.
        output: folder for the files; must exist.
        force: delete the anomaly maps of earlier runs and score all photos again.
        progress: wraps the photos, such as in a progress bar.

    Returns:
        Photos that failed, with the reason. They do not stop the others.

    Raises:
        ValueError: files of an earlier run with other settings, or results that would replace a photo.
        OSError: the folder cannot be written.
    """
    check_fishyscapes(inputs, output)
    manifest, settings = _manifest(output), settings_of(scorer)
    if open_manifest(manifest, settings, output.glob("*_anomaly.npy"), force=force) is None:
        write_manifest(manifest, {"settings": settings})
    failures = {}
    for number, path in progress(inputs.items()):
        if all(file.is_file() for file in result_paths(output, number)):
            continue
        try:
            scored = scorer(read_image(path))
            write_result(output, number, scored.score.cpu().numpy(), scored.segmentation.cpu().numpy())
        except Exception as error:
            failures[path] = photo_failure(error, path)
    return failures
