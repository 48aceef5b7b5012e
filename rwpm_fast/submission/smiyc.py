"""Results as the toolkit of SegmentMeIfYouCan reads them: score maps in float16 HDF5 files, optional masks as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset, Frame
from ..io.files import atomic_write
from ..scoring.scorer import Scorer
from .float16 import HalfReport, Rescaling, plain_half
from .manifest import begin, settings_of, write_record

RESCALINGS = ("spread", "none")
_FITTED_ON = 8  # photos: held in memory while the rescaling is fitted


@dataclass
class Submission:
    """What a run wrote.

    Attributes:
        folder: of the score maps.
        written: number of maps written now.
        kept: number of maps that were there.
        report: what float16 did to the maps written now.
        failures: photos that failed, with the reason.
    """

    folder: Path
    written: int = 0
    kept: int = 0
    report: HalfReport = field(default_factory=HalfReport)
    failures: dict[Path, str] = field(default_factory=dict)


def map_path(outputs: Path, method: str, name: str, frame_id: str) -> Path:
    """File of a score map; ``name`` is SMIYC's name of the data set."""
    return outputs / "anomaly_p" / method / name / f"{frame_id}.hdf5"


def mask_path(outputs: Path, method: str, name: str, frame_id: str) -> Path:
    """File of a binary mask."""
    return outputs / "anomaly_masks" / method / name / f"{frame_id}.png"


def write_map(path: Path, scores: np.ndarray) -> None:
    """Write a float16 map [H, W] as the variable ``value`` of an HDF5 file, gzip level 9, whole or not at all.

    Raises:
        ValueError: another type or shape, or a NaN.
        ImportError: h5py is not installed.
        OSError: the folder is missing or cannot be written.
    """
    if scores.dtype != np.float16 or scores.ndim != 2:
        raise ValueError(f"scores: expected float16 [H, W], got {scores.dtype} {list(scores.shape)}")
    if unranked := int(np.isnan(scores).sum()):
        raise ValueError(f"scores: NaN at {unranked} pixels")
    content = io.BytesIO()
    with _h5py().File(content, "w") as file:
        file.create_dataset("value", data=scores, compression="gzip", compression_opts=9)
    atomic_write(path, lambda file: file.write(content.getbuffer()))


def write_mask(path: Path, predicted: np.ndarray) -> None:
    """Write a mask [H, W] bool as a PNG of 0 and 255, whole or not at all."""
    from PIL import Image

    picture = Image.fromarray(predicted.astype(np.uint8) * 255)
    atomic_write(path, lambda file: picture.save(file, "png"))


def submit_smiyc(
    scorer: Scorer,
    dataset: Dataset,
    outputs: Path,
    method: str,
    *,
    rescale: str = "spread",
    mask_threshold: float | None = None,
    force: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Submission:
    """Score the frames of a data set and write their maps; those that are there already are left as they are.

    Maps lie at ``outputs/anomaly_p/METHOD/DATASET/ID.hdf5``. ``DATASET.json`` beside that folder records what they were
    made with, and the rescaling to float16, which is fitted on eight frames of the first run and then kept.

    Args:
        scorer: network, walk and score.
        dataset: of the official protocol, since the toolkit compares at the photos' own size. Its labels, where it has
            any, are only used for the report.
        outputs: the toolkit's ``DIR_OUTPUTS``.
        method: name of the method there.
        rescale: "spread" (:class:`rwpm_fast.submission.Rescaling`) or "none" to round.
        mask_threshold: write masks too, of scores above it, before they are rescaled; None for none.
        force: delete the maps that are there and score all anew, with a rescaling fitted anew.
        progress: wraps the frames.

    Raises:
        ValueError: unknown rescaling, a data set that SMIYC has no name for, another protocol, a method that is no
            name of a folder, or files of an earlier run with other settings.
        ImportError: h5py is not installed.
        OSError: a folder cannot be written.
    """
    name = _smiyc_name(dataset)
    if rescale not in RESCALINGS:
        raise ValueError(f"rescale: expected one of {', '.join(RESCALINGS)}, got {rescale!r}")
    if method in ("", ".", "..") or Path(method).name != method:
        raise ValueError(f"method: expected a name for a folder, got {method!r}")
    _h5py()

    folder = outputs / "anomaly_p" / method / name
    folder.mkdir(parents=True, exist_ok=True)
    if mask_threshold is not None:
        mask_path(outputs, method, name, "").parent.mkdir(parents=True, exist_ok=True)
    record_path = folder.with_name(f"{name}.json")
    settings = {**settings_of(scorer), "rescale": rescale, "mask_threshold": mask_threshold}
    record = begin(record_path, settings, folder.glob("*.hdf5"), force=force)

    def files(frame: Frame) -> list[Path]:
        mask = [] if mask_threshold is None else [mask_path(outputs, method, name, frame.id)]
        return [*mask, map_path(outputs, method, name, frame.id)]

    missing = [f for f in dataset if not all(file.is_file() for file in files(f))]
    done = Submission(folder, kept=len(dataset) - len(missing))

    def score(frame: Frame) -> np.ndarray | None:
        try:
            scores = scorer(frame.read_image()).score.cpu().numpy()
            if unranked := int(np.isnan(scores).sum()):
                raise ValueError(f"{scorer.score}: NaN at {unranked} pixels")
            return scores
        except ValueError as error:
            done.failures[frame.photo] = str(error)

    first: dict[str, np.ndarray | None] = {}
    if record is None:
        rescaling = None
        if rescale == "spread" and missing:
            first = {f.id: score(f) for f in missing[:: -(-len(missing) // _FITTED_ON)]}
            rescaling = {"knots": Rescaling.fit(m for m in first.values() if m is not None).knots}
        record = {"settings": settings, "rescaling": rescaling}
        write_record(record_path, record)
    to_half = plain_half if record["rescaling"] is None else Rescaling(tuple(record["rescaling"]["knots"]))

    for frame in progress(missing):
        scores = first.pop(frame.id) if frame.id in first else score(frame)
        if scores is None:
            continue
        try:
            half = to_half(scores)
            done.report.update(scores, half, None if frame.label is None else frame.read_labels())
            *mask, path = files(frame)
            if mask:
                write_mask(*mask, scores > mask_threshold)
            write_map(path, half)
        except ValueError as error:
            done.failures[frame.photo] = str(error)
            continue
        done.written += 1
    return done


def _smiyc_name(dataset: Dataset) -> str:
    """SMIYC's name of the data set that outputs are stored under."""
    split = None if dataset.benchmark is None else dataset.benchmark.splits.get(dataset.split)
    if split is None or split.smiyc_name is None:
        raise ValueError(f"dataset: SegmentMeIfYouCan has no outputs of {dataset.name}, split {dataset.split}")
    if dataset.protocol != "official":
        raise ValueError(
            f"protocol: expected official, since maps must have the photos' own size, got {dataset.protocol}"
        )
    return split.smiyc_name


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("SegmentMeIfYouCan's files need h5py: pip install 'rwpm_fast[submission]'") from error
    return h5py
