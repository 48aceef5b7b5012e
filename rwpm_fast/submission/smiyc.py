"""Submissions to SegmentMeIfYouCan, for its toolkit: score maps in float16 HDF5 files, optional masks as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data import Dataset, Frame
from ..io.arrays import as_array
from ..io.extras import import_extra, require_extras
from ..io.files import atomic_write
from ..io.outputs import check_outputs
from ..scoring.failures import photo_failure
from ..scoring.scorer import Scorer
from .float16 import Float16Report, Rescaling, round_to_float16
from .manifest import open_manifest, settings_of, write_manifest

RESCALINGS = ("equalize", "none")
_FILES = "writing SegmentMeIfYouCan's files"  # what needs h5py
_FIT_FRAMES = 8  # frames that the rescaling is fitted on; their maps are in memory at once


@dataclass
class Submission:
    """Result of :func:`submit_smiyc`.

    Attributes:
        folder: folder of the score maps.
        written: number of maps that this run wrote.
        kept: number of maps that earlier runs wrote.
        report: precision that the maps of this run lost in float16.
        failures: photos that failed, with the reason.
    """

    folder: Path
    written: int = 0
    kept: int = 0
    report: Float16Report = field(default_factory=Float16Report)
    failures: dict[Path, str] = field(default_factory=dict)

    def merge(self, other: Submission) -> None:
        """Add what another process wrote of other frames; maps that were there already are those of both."""
        self.written += other.written
        self.kept += other.kept
        self.report.merge(other.report)
        self.failures |= other.failures


def map_path(outputs: Path, method: str, name: str, frame_id: str) -> Path:
    """Return the path of a score map; ``name`` is SMIYC's name of the data set."""
    return outputs / "anomaly_p" / method / name / f"{frame_id}.hdf5"


def mask_path(outputs: Path, method: str, name: str, frame_id: str) -> Path:
    """Return the path of a binary mask; ``name`` is SMIYC's name of the data set."""
    return outputs / "anomaly_masks" / method / name / f"{frame_id}.png"


def manifest_path(outputs: Path, method: str, name: str) -> Path:
    """Return the path of the record of settings; ``name`` is SMIYC's name of the data set."""
    return outputs / "anomaly_p" / method / f"{name}.json"


def check_smiyc(
    dataset: Dataset, outputs: Path, method: str, *others: Path | None, rescale: str = "equalize", masks: bool = False
) -> None:
    """Check what can be wrong with a submission before a photo is scored; see :func:`submit_smiyc`.

    Args:
        dataset: see :func:`submit_smiyc`.
        outputs: see :func:`submit_smiyc`.
        method: see :func:`submit_smiyc`.
        others: files that are read besides the data set's, such as weights.
        rescale: see :func:`submit_smiyc`.
        masks: masks are written too.

    Raises:
        ValueError: see :func:`submit_smiyc`, or a result that would replace a file that is read.
        ImportError: h5py is not installed.
    """
    name = _smiyc_name(dataset)
    if rescale not in RESCALINGS:
        raise ValueError(f"rescale: expected one of {', '.join(RESCALINGS)}, got {rescale!r}")
    if method in ("", ".", "..") or Path(method).name != method:
        raise ValueError(f"method: expected a name for a folder, got {method!r}")
    require_extras(_FILES, "h5py")
    paths = [map_path, mask_path] if masks else [map_path]
    files = [(frame.photo, path(outputs, method, name, frame.id)) for frame in dataset for path in paths]
    check_outputs(
        [*files, ("the record", manifest_path(outputs, method, name))],
        [*(file for frame in dataset for file in frame.files()), *others],
        "give another folder or method",
    )


def write_map(path: Path, scores: np.ndarray) -> None:
    """Write a map as the variable ``value`` of an HDF5 file, gzip level 9, atomically.

    Args:
        path: the file; its folder must exist.
        scores: [H, W] float16.

    Raises:
        ValueError: another type or shape, or a NaN.
        ImportError: h5py is not installed.
        OSError: the folder is missing or cannot be written.
    """
    scores = as_array("scores", scores)
    if scores.dtype != np.float16 or scores.ndim != 2:
        raise ValueError(f"scores: expected float16 [H, W], got {scores.dtype} {list(scores.shape)}")
    if unranked := int(np.isnan(scores).sum()):
        raise ValueError(f"scores: NaN at {unranked} pixels")
    h5py = import_extra("h5py", _FILES)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("value", data=scores, compression="gzip", compression_opts=9)
    atomic_write(path, lambda file: file.write(content.getbuffer()))


def write_mask(path: Path, predicted: np.ndarray) -> None:
    """Write a mask [H, W] bool as a PNG of 0 and 255, atomically."""
    from PIL import Image

    picture = Image.fromarray(as_array("predicted", predicted).astype(np.uint8) * 255)
    atomic_write(path, lambda file: picture.save(file, "png"))


def frames_to_fit(
    dataset: Dataset, outputs: Path, method: str, *, rescale: str, masks: bool, force: bool
) -> list[Frame]:
    """Return the frames that :func:`submit_smiyc` would fit the rescaling on; none if an earlier run has fitted it.

    Several processes that share the frames submit these in one of them first, and then each its share: then the maps
    are those of a single process.

    Args:
        dataset: see :func:`submit_smiyc`.
        outputs: see :func:`submit_smiyc`.
        method: see :func:`submit_smiyc`.
        rescale: see :func:`submit_smiyc`.
        masks: masks are written too.
        force: see :func:`submit_smiyc`.
    """
    name = _smiyc_name(dataset)
    if rescale != "equalize" or (manifest_path(outputs, method, name).is_file() and not force):
        return []
    missing = list(dataset) if force else _missing(dataset, outputs, method, masks)
    return _some_to_fit(missing)


def _missing(dataset: Dataset, outputs: Path, method: str, masks: bool) -> list[Frame]:
    """Return the frames that lack a map, or a mask where there are to be ``masks``."""
    name = _smiyc_name(dataset)
    paths = [map_path, mask_path] if masks else [map_path]
    return [frame for frame in dataset if not all(path(outputs, method, name, frame.id).is_file() for path in paths)]


def _some_to_fit(missing: list[Frame]) -> list[Frame]:
    return missing[:: -(-len(missing) // _FIT_FRAMES)] if missing else []


def submit_smiyc(
    scorer: Scorer,
    dataset: Dataset,
    outputs: Path,
    method: str,
    *,
    rescale: str = "equalize",
    mask_threshold: float | None = None,
    force: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Submission:
    """Score the frames of a data set and write their maps; frames that have their files already are skipped.

    Maps are written to ``outputs/anomaly_p/METHOD/DATASET/ID.hdf5``. The manifest ``outputs/anomaly_p/METHOD/
    DATASET.json`` records the settings and the rescaling to float16, which is fitted on eight frames of the first run.

    Args:
        scorer: network, walk and score.
        dataset: of the official protocol, since the toolkit compares at the photos' own size. Its labels, if it has
            any, are only used for the report.
        outputs: the toolkit's ``DIR_OUTPUTS``.
        method: name of the method there.
        rescale: "equalize" (:class:`rwpm_fast.submission.Rescaling`), or "none" to round.
        mask_threshold: also write masks of the scores above it, before they are rescaled; None for no masks.
        force: delete the maps of earlier runs, fit the rescaling again, and score all frames again.
        progress: wraps the frames, such as in a progress bar.

    Returns:
        What was written, and the photos that failed. They do not stop the others.

    Raises:
        ValueError: unknown rescaling, a data set that SMIYC has no name for, another protocol, a method that cannot
            name a folder, or files of an earlier run with other settings.
        ImportError: h5py is not installed.
        OSError: a folder cannot be written.
    """
    check_smiyc(dataset, outputs, method, rescale=rescale, masks=mask_threshold is not None)
    name = _smiyc_name(dataset)

    folder = outputs / "anomaly_p" / method / name
    folder.mkdir(parents=True, exist_ok=True)
    if mask_threshold is not None:
        mask_path(outputs, method, name, "").parent.mkdir(parents=True, exist_ok=True)
    record = manifest_path(outputs, method, name)
    settings = {**settings_of(scorer), "rescale": rescale, "mask_threshold": mask_threshold}
    manifest = open_manifest(record, settings, folder.glob("*.hdf5"), force=force)

    missing = _missing(dataset, outputs, method, mask_threshold is not None)
    submission = Submission(folder, kept=len(dataset) - len(missing))

    def score(frame: Frame) -> np.ndarray | None:
        try:
            return scorer(frame.read_image()).score.cpu().numpy()
        except Exception as error:
            submission.failures[frame.photo] = photo_failure(error, frame.photo)
            return None

    first: dict[str, np.ndarray | None] = {}
    if manifest is None:
        rescaling = None
        if rescale == "equalize" and missing:
            first = {f.id: score(f) for f in _some_to_fit(missing)}
            rescaling = {"knots": Rescaling.fit(m for m in first.values() if m is not None).knots}
        manifest = {"settings": settings, "rescaling": rescaling}
        write_manifest(record, manifest)
    to_float16: Callable[[np.ndarray], np.ndarray] = round_to_float16
    if manifest["rescaling"] is not None:
        to_float16 = Rescaling(tuple(manifest["rescaling"]["knots"]))

    for frame in progress(missing):
        scores = first.pop(frame.id) if frame.id in first else score(frame)
        if scores is None:
            continue
        try:
            half = to_float16(scores)
            submission.report.update(scores, half, None if frame.label is None else frame.read_labels())
            if mask_threshold is not None:
                write_mask(mask_path(outputs, method, name, frame.id), scores > mask_threshold)
            write_map(map_path(outputs, method, name, frame.id), half)
        except Exception as error:
            submission.failures[frame.photo] = photo_failure(error, frame.photo)
            continue
        submission.written += 1
    return submission


def _smiyc_name(dataset: Dataset) -> str:
    """Return SMIYC's name of the data set, under which outputs are stored."""
    split = None if dataset.benchmark is None else dataset.benchmark.splits.get(dataset.split)
    if split is None or split.smiyc_name is None:
        raise ValueError(f"dataset: SegmentMeIfYouCan has no outputs of {dataset.name}, split {dataset.split}")
    if dataset.protocol != "official":
        raise ValueError(
            f"protocol: expected official, since maps must have the photos' own size, got {dataset.protocol}"
        )
    return split.smiyc_name
