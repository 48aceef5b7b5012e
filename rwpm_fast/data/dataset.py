"""A data set on disk as a list of frames: found by looking at the folder, read as a protocol says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ..io.files import natural_key
from ..io.images import ImageError, find_images, pair_labels
from ..metrics.pixel import check_label_values
from .benchmarks import BENCHMARKS, Benchmark, Protocol, Split
from .frames import Frame, LabelValues
from .layouts import Found, find


@dataclass(frozen=True)
class Dataset:
    """Frames of a split of a data set, in natural order of their ids.

    Attributes:
        name: the data set's name, a key of ``rwpm_fast.data.BENCHMARKS``; "folders" for any two folders.
        root: the folder that was looked at.
        layout: name of the layout that was found there.
        protocol: how the frames are read.
        split: which frames.
        frames: those that can be read: with labels, unless the split has none.
        expected: published number of frames; None where none is.
        without_label: photos that lack their label.
        without_photo: label files that lack their photo (or overlay), and names on the data set's list.
    """

    name: str
    root: Path
    layout: str
    protocol: str
    split: str
    frames: tuple[Frame, ...]
    expected: int | None = None
    without_label: tuple[Path, ...] = ()
    without_photo: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    @property
    def benchmark(self) -> Benchmark | None:
        """What is published of it; None for any two folders."""
        return BENCHMARKS.get(self.name)

    @property
    def title(self) -> str:
        """Its name in words."""
        return self.benchmark.title if self.benchmark is not None else self.name

    def require_complete(self) -> None:
        """Raise ImageError, with the names, where photos or labels are missing."""
        for what, missing in (("labels", self.without_label), ("photos", self.without_photo)):
            if missing:
                named = ", ".join(Path(name).name for name in missing[:5])
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                raise ImageError(f"{self.name} in {self.root}: {what} missing for {len(missing)}: {named}{more}")


def open_dataset(
    name: str,
    root: str | PathLike[str],
    *,
    protocol: str = "official",
    split: str | None = None,
    layout: str | None = None,
    source: str | PathLike[str] | None = None,
) -> Dataset:
    """Frames of a data set, whatever layout it has on this disk. Folders are listed, files are not opened.

    Args:
        name: key of ``rwpm_fast.data.BENCHMARKS``.
        root: folder of the data set, or the folder around it.
        protocol: "official", or "rwpm" to read as the released RWPM code does: the Anomaly track resized to 1280x720,
            all frames of the Obstacle track with "validation" in their name, Lost & Found by its train ids.
        split: which frames; the data set's usual ones when None.
        layout: name of a layout; the one that fits when None.
        source: for the official label archives of Fishyscapes, whose photos come from elsewhere: the root of Lost &
            Found, or of Cityscapes. Looked for below ``root`` when None.

    Raises:
        ValueError: unknown name, protocol, split or layout, a split that needs frames which are not here, or several
            layouts that fit.
        ImageError: no such folder, or no layout fits; the message says what was looked for and where.
    """
    benchmark = _choose("name", name, BENCHMARKS)
    rules = _choose("protocol", protocol, benchmark.protocols)
    splits = {**benchmark.splits, **rules.splits}
    if split is not None:
        splits = {split: _choose("split", split, splits)}
    elif benchmark.default_split is not None:
        splits = {benchmark.default_split: splits[benchmark.default_split]}
    root = Path(root)
    for folder in (root, *([Path(source)] if source is not None else [])):
        if not folder.is_dir():
            raise ImageError(f"{name}: no such folder: {folder}")

    searches = _search(benchmark, rules, splits, layout, root, None if source is None else Path(source))
    fitting = [(s, found) for s, found in searches if found.paired]
    if not fitting:
        # The labels of a test split are kept back; then photos alone make it.
        fitting = [(s, found) for s, found in searches if not splits[s].labeled and found.photos_alone][:1]
    if not fitting:
        tried = "".join(f"\n  {f.layout.name}: {f.layout.described()}{_nearly(f)}" for _, f in searches)
        raise ImageError(f"{name}: no layout fits below {root}; looked for{tried}")
    if len(fitting) > 1:
        found = ", ".join(f"layout {f.layout.name} of split {s}" for s, f in fitting)
        raise ValueError(f"{name}: several fit below {root}: {found}; choose by layout or split")
    (chosen, found) = fitting[0]
    return _dataset(name, root, protocol, rules, chosen, splits[chosen], found)


def folders(
    images: str | PathLike[str] | Iterable[str | PathLike[str]],
    labels: str | PathLike[str],
    *,
    positive: Sequence[int] = (1,),
    negative: Sequence[int] = (0,),
    photos: int | None = None,
) -> Dataset:
    """Any photos with label PNGs of their stems in another folder.

    Args:
        images: what ``rwpm_fast.io.images.find_images`` takes.
        labels: folder of label files.
        positive, negative: label values of anomalies and inliers; every other value is void.
        photos: the first so many only.

    Raises:
        ValueError: label values that are none, or both.
        ImageError: nothing there, or labels missing.
    """
    check_label_values(positive, negative)
    values = LabelValues.of(anomaly=positive, inlier=negative, void=None)
    pairs = pair_labels(find_images(images)[:photos], labels)
    frames = tuple(Frame(photo.stem, photo, label, values) for photo, label in pairs)
    return Dataset("folders", Path(labels), "plain", "official", "all", frames)


def _choose(what: str, name: str, known):
    if name not in known:
        raise ValueError(f"{what}: expected one of {', '.join(known)}, got {name!r}")
    return known[name]


def _search(
    benchmark: Benchmark,
    rules: Protocol,
    splits: dict[str, Split],
    layout: str | None,
    root: Path,
    source: Path | None,
) -> list[tuple[str, Found]]:
    """What each layout that may hold one of the splits finds below the root, with the split's name."""
    layouts = [one for one in benchmark.layouts if rules.layouts is None or one.name in rules.layouts]
    if layout is not None:
        _choose("layout", layout, dict.fromkeys(one.name for one in layouts))
        layouts = [one for one in layouts if one.name == layout]
    searches = []
    for name, split in splits.items():
        for one in layouts:
            # A layout without splits of its own holds those that it has a folder or a choice of names for.
            if name in one.splits if one.splits is not None else ("{split}" not in one.labels or split.folder):
                searches.append((name, find(one.filled(split=split.folder, ids=rules.ids), root, source)))
    if not searches:
        names = ", ".join(dict.fromkeys(one.name for one in layouts))
        raise ValueError(f"split: {', '.join(splits)} cannot be found in the layout {names}")
    return searches


def _nearly(found: Found) -> str:
    """What was there of a layout that does not fit."""
    there = {"photos": len(found.photos_alone), "labels": len(found.labels_alone)}
    some = " and ".join(f"{number} {what}" for what, number in there.items() if number)
    return f" (found {some}, but no pair)" if some else ""


def _dataset(
    name: str, root: Path, protocol: str, rules: Protocol, split_name: str, split: Split, found: Found
) -> Dataset:
    ids = sorted({*found.paired, *found.photos_alone, *found.labels_alone}, key=natural_key)
    kept = ids if found.layout.splits is not None else split.select(ids)
    frames = []
    for frame_id in kept:
        if frame_id in found.paired:
            photo, overlay, label = found.paired[frame_id]
            files = (photo, label) if overlay is None else (overlay, label)
            background = None if overlay is None else photo
            frames.append(Frame(frame_id, *files, rules.values, background, rules.size))
        elif not split.labeled and frame_id in found.photos_alone:
            frames.append(Frame(frame_id, found.photos_alone[frame_id], None, rules.values, None, rules.size))
    without_label = [found.photos_alone[i] for i in kept if i in found.photos_alone] if split.labeled else []
    without_photo = [str(found.labels_alone[i]) for i in kept if i in found.labels_alone] + found.listed_alone
    return Dataset(
        name,
        root,
        found.layout.name,
        protocol,
        split_name,
        tuple(frames),
        split.count,
        tuple(without_label),
        tuple(without_photo),
    )
