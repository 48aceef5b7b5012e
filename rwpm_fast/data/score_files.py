"""Find the score map of each frame in a folder of files that anybody's method wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..io.files import natural_key
from ..io.score_maps import PNG, SUFFIXES, ScoreMapError
from ..io.text import listed
from .frames import Frame

_FISHYSCAPES = re.compile(r"(\d{4})_")  # leads its photos and labels; its results are called DDDD_anomaly.npy


def find_score_files(
    folder: str | os.PathLike[str],
    frames: Sequence[Frame],
    *,
    every_frame: Iterable[Frame] = (),
    png: bool = False,
    extra: bool = False,
) -> dict[str, Path]:
    """Find the score map of each frame in a folder and its subfolders.

    A map is called as its frame: by its id, with subfolders where the id has slashes; by the last part of the id; by
    the stem of photo or label; or by their leading number and ``_anomaly``, as Fishyscapes has it. So the files of
    ``rwpm-fast score`` and ``rwpm-fast submit``, and those of SegmentMeIfYouCan's toolkit, need no renaming.

    Args:
        folder: where to look; hidden files are left out, and segmentations of Fishyscapes.
        frames: the frames that need a map.
        every_frame: all frames of the data set, if ``frames`` are not all; their maps are not extra.
        png: take PNGs for maps too, in a folder without others.
        extra: let there be maps of no frame.

    Returns:
        Id of a frame to its file.

    Raises:
        ScoreMapError: no such folder, a frame without a map or with several, a map that two frames claim, or maps of no
            frame. The message names folder, files and frames.

    Example:
        >>> files = find_score_files("outputs/anomaly_p/ours", dataset.frames)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScoreMapError(f"{folder}: expected a folder of score maps, got {'a file' if folder.exists() else 'none'}")
    files, pngs = _list(folder, png)
    by_name: dict[str, list[Path]] = {}
    for file in files:
        relative = file.relative_to(folder).with_suffix("").as_posix()
        for name in {relative, file.stem}:
            by_name.setdefault(name, []).append(file)

    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    missing: list[str] = []
    for frame in frames:
        candidates = next((by_name[name] for name in _names(frame) if name in by_name), [])
        if not candidates:
            missing.append(frame.id)
            continue
        if len(candidates) > 1:
            several = listed(file.relative_to(folder) for file in candidates)
            raise ScoreMapError(f"{folder}: expected one score map for {frame.id}, got {several}; keep one of them")
        file = candidates[0]
        if file in owners:
            raise ScoreMapError(f"{file}: expected a map of one frame, got a name of {owners[file]} and of {frame.id}")
        found[frame.id], owners[file] = file, frame.id
    if missing:
        first = next(frame for frame in frames if frame.id == missing[0])
        wanted = " or ".join(dict.fromkeys(_names(first)))
        hint = f"; {len(pngs)} PNGs there are maps only with --png-range LOW HIGH" if pngs and not files else ""
        raise ScoreMapError(
            f"{folder}: expected a score map for each of {len(frames)} frames, got none for {len(missing)}: "
            f"{listed(missing)}; that of {first.id} is called {wanted}, and ends in {' '.join(SUFFIXES)}{hint}"
        )
    if not extra:
        _refuse_extra(folder, files, found.values(), by_name, every_frame)
    return found


def _refuse_extra(
    folder: Path,
    files: Iterable[Path],
    used: Iterable[Path],
    by_name: dict[str, list[Path]],
    every_frame: Iterable[Frame],
) -> None:
    """Raise if there are maps of no frame."""
    known = set(used)
    for frame in every_frame:
        known.update(*(by_name.get(name, ()) for name in _names(frame)))
    if others := [file.relative_to(folder) for file in files if file not in known]:
        raise ScoreMapError(
            f"{folder}: expected maps of the data set's frames only, got {len(others)} of no frame: {listed(others)}; "
            "name another folder or split, or allow them (--extra-scores)"
        )


def _list(folder: Path, png: bool) -> tuple[list[Path], list[Path]]:
    """List the score maps below a folder in natural order; and the PNGs, which are among them if they may be."""
    there: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        there += [Path(parent, name) for name in names if not name.startswith(".")]
    there.sort(key=natural_key)
    pngs = [file for file in there if file.suffix.lower() == PNG]
    maps = {file for file in there if file.suffix.lower() in SUFFIXES}
    files = [file for file in there if file in maps and not _is_segmentation(file, maps)]
    return (pngs if png and not files else files), pngs


def _is_segmentation(file: Path, maps: set[Path]) -> bool:
    """Whether a file is a segmentation that Fishyscapes wants beside the anomaly map."""
    name, mark, _ = file.stem.rpartition("_segmentation")
    return bool(mark) and file.with_name(f"{name}_anomaly{file.suffix}") in maps


def _names(frame: Frame) -> Iterator[str]:
    """Yield the names that the map of a frame may have, without suffix, the best first."""
    yield frame.id
    yield frame.id.rpartition("/")[2]
    stems = [file.stem for file in (frame.photo, frame.label) if file is not None]
    yield from stems
    for stem in stems:
        if number := _FISHYSCAPES.match(stem):
            yield f"{number[1]}_anomaly"
