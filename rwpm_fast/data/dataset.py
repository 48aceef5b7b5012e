"""Data sets on disk as lists of frames: the layout is detected, the protocol says how labels are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeVar

from ..io.files import natural_key
from ..io.images import ImageError, join_labels, list_images
from ..io.listing import unused_text
from ..io.text import listed
from ..metrics.pixel import check_label_values
from .benchmarks import BENCHMARKS, Benchmark, Protocol, Split
from .frames import ORIENTATIONS, Frame, LabelValues
from .layouts import Found, Layout, find, listed_photos

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """Frames of a split of a data set, in natural order of their ids.

    Attributes:
        name: the data set's name, a key of ``rwpm_fast.data.BENCHMARKS``; "folders" for any two folders.
        root: the folder that was searched.
        layout: name of the layout that was found there.
        protocol: name of the protocol by which the frames are read.
        split: name of the split.
        frames: the frames that can be read: with labels, unless the split has none.
        expected: published number of frames; None if none is published.
        without_label: photos that lack their label.
        without_photo: label files that lack their photo (or overlay).
        listed_only: names on the data set's own list of photos that are not there.
        unused: files among the photos that are none by their suffix.
        unlabeled: frames of its sequences between those with labels; empty of a data set of single photos.
        expected_sequences: published number of sequences; None of a data set of single photos.
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
    listed_only: tuple[str, ...] = ()
    unused: tuple[Path, ...] = ()
    unlabeled: tuple[Frame, ...] = ()
    expected_sequences: int | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    @property
    def benchmark(self) -> Benchmark | None:
        """What is published about it; None for any two folders."""
        return BENCHMARKS.get(self.name)

    @property
    def title(self) -> str:
        """Its full name, for titles."""
        return self.name if self.benchmark is None else self.benchmark.title

    def sequences(self) -> dict[str, list[Frame]]:
        """Group all frames, those without labels too, by what precedes the last slash of their id, in natural order.

        Returns:
            Name of a sequence to its frames; "" for frames whose id has no slash, as in a folder of photos.
        """
        grouped: dict[str, list[Frame]] = {}
        for frame in sorted((*self.frames, *self.unlabeled), key=lambda frame: natural_key(frame.id)):
            grouped.setdefault(frame.id.rpartition("/")[0], []).append(frame)
        return grouped

    def require_complete(self) -> None:
        """Raise ImageError, with the names, if photos or labels are missing; of any two folders only if labels are."""
        missing: dict[str, Sequence[str | Path]] = {"labels": self.without_label}
        if self.benchmark is not None:
            missing |= {"photos": self.without_photo, "listed photos": self.listed_only}
        for what, paths in missing.items():
            if paths:
                names = listed(Path(path).name for path in paths)
                others = f"; {unused_text(self.unused)}" if what != "labels" and self.unused else ""
                raise ImageError(f"{self.name} in {self.root}: {what} missing for {len(paths)}: {names}{others}")


def open_dataset(
    name: str,
    root: str | PathLike[str],
    *,
    protocol: str = "official",
    split: str | None = None,
    layout: str | None = None,
    source: str | PathLike[str] | None = None,
    orientation: str | None = None,
) -> Dataset:
    """Find the frames of a data set in any of its known layouts. Folders are listed; no file is opened.

    Args:
        name: key of ``rwpm_fast.data.BENCHMARKS``.
        root: folder of the data set, or the folder around it.
        protocol: "official", or "rwpm" to read as the released RWPM code does: the Anomaly track resized to 1280x720,
            all frames of the Obstacle track with "validation" in their name, Lost & Found by its train ids. "road" and
            "raw" are there for some data sets; see ``rwpm_fast.data.BENCHMARKS``.
        split: name of the split; None for the data set's default.
        layout: name of the layout; None to detect it.
        source: for the official label archives of Fishyscapes, whose photos come from another data set: the root of
            Lost & Found, or of Cityscapes. None to search below ``root``.
        orientation: how labels belong to photos with an EXIF orientation; see :class:`Frame`.

    Raises:
        ValueError: unknown name, protocol, split, layout or orientation, a split that needs frames which are missing,
            or several layouts that fit.
        ImageError: no such folder, no layout fits, or a split's list of photos is missing; the message says what was
            expected and where.

    Example:
        >>> dataset = open_dataset("road_anomaly", "datasets")
        >>> photo, labels = dataset.frames[0].read()  # [H, W, 3] and [H, W], uint8
    """
    _check_orientation(orientation)
    benchmark = _choose("name", name, BENCHMARKS)
    rules = _choose("protocol", protocol, benchmark.protocols)
    splits = {**benchmark.splits, **rules.splits}
    if split is not None:
        splits = {split: _choose("split", split, splits)}
    elif benchmark.default_split is not None:
        splits = {benchmark.default_split: splits[benchmark.default_split]}
    root = Path(root)
    source = None if source is None else Path(source)
    for folder in filter(None, (root, source)):
        if not folder.is_dir():
            raise ImageError(f"{name}: no such folder: {folder}")

    searches = _search(benchmark, rules, splits, layout, root, source)
    fitting = [(s, found) for s, found in searches if found.paired]
    if not fitting:
        # The labels of a test split are not public; then photos without labels suffice.
        fitting = [(s, found) for s, found in searches if not splits[s].labeled and found.unpaired_photos][:1]
    if not fitting:
        tried = "".join(f"\n  {f.layout.name}: {f.layout.described()}{_unpaired_text(f)}" for _, f in searches)
        raise ImageError(f"{name}: no layout fits below {root}; looked for{tried}")
    if len(fitting) > 1:
        layouts = ", ".join(f"layout {f.layout.name} of split {s}" for s, f in fitting)
        raise ValueError(f"{name}: several fit below {root}: {layouts}; choose by layout or split")
    chosen, found = fitting[0]
    return _dataset(name, root, protocol, rules, chosen, splits[chosen], found, orientation)


def folders(
    images: str | PathLike[str] | Iterable[str | PathLike[str]],
    labels: str | PathLike[str],
    *,
    positive: Sequence[int] = (1,),
    negative: Sequence[int] = (0,),
    void: Sequence[int] | None = None,
    orientation: str | None = None,
    limit: int | None = None,
    complete: bool = True,
) -> Dataset:
    """Make a data set of photos and of label PNGs with the same stems in another folder.

    Args:
        images: file, folder or glob pattern of photos, or several; see :func:`rwpm_fast.io.images.list_images`.
        labels: folder of label files. Those without a photo are left over and listed as ``without_photo``.
        positive: label values of anomalies.
        negative: label values of inliers.
        void: label values that are ignored, and any other value is an error; None if every other value is void.
        orientation: how labels belong to photos with an EXIF orientation; see :class:`Frame`.
        limit: use the first ``limit`` photos only; None for all.
        complete: raise where a photo has no label; else such photos are listed as ``without_label``.

    Raises:
        ValueError: no positive or no negative label values, a value of two kinds, or an unknown orientation.
        ImageError: no photos, or labels missing.
    """
    check_label_values(positive, negative, void or ())
    _check_orientation(orientation)
    values = LabelValues.from_values(anomaly=positive, inlier=negative, void=void)
    photos = list_images(images)
    pairing = join_labels(photos.used[:limit], labels)
    if complete:
        pairing.require_complete(labels)
    stems = {photo.stem for photo in photos.used}
    return Dataset(
        "folders",
        Path(labels),
        "plain",
        "official",
        "all",
        tuple(Frame(p.stem, p, label, values, orientation=orientation) for p, label in pairing.pairs.items()),
        without_label=tuple(pairing.missing),
        without_photo=tuple(str(label) for stem, label in pairing.labels.items() if stem not in stems),
        unused=tuple(photos.unused),
    )


def _check_orientation(orientation: str | None) -> None:
    if orientation not in (None, *ORIENTATIONS):
        raise ValueError(f"orientation: expected {' or '.join(ORIENTATIONS)}, got {orientation!r}")


def _choose(what: str, name: str, known: Mapping[str, T]) -> T:
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
    """Search for each layout that may hold one of the splits; pairs of the split's name and the files found."""
    candidates = [c for c in benchmark.layouts if rules.layouts is None or c.name in rules.layouts]
    if layout is not None:
        _choose("layout", layout, dict.fromkeys(c.name for c in candidates))
        candidates = [c for c in candidates if c.name == layout]
    searches = []
    for name, split in splits.items():
        for candidate in candidates:
            if _may_hold(candidate, name, split):
                searches.append((name, find(candidate.filled(split=split.folder, ids=rules.ids), root, source)))
    if not searches:
        names = ", ".join(dict.fromkeys(c.name for c in candidates))
        raise ValueError(f"split: {', '.join(splits)} cannot be found in the layout {names}")
    return searches


def _may_hold(layout: Layout, name: str, split: Split) -> bool:
    """Whether folders of this layout may hold the split, by a folder of its own or by names that select it."""
    if layout.splits is not None:
        return name in layout.splits
    return "{split}" not in layout.labels or bool(split.folder)


def _unpaired_text(found: Found) -> str:
    """Say how many files of a layout that does not fit were found."""
    counts = {"photos": len(found.unpaired_photos), "labels": len(found.unpaired_labels)}
    text = " and ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    others = f"; {unused_text(found.unused)}" if found.unused else ""
    return f" (found {text}, but no pair{others})" if text else ""


def _dataset(
    name: str,
    root: Path,
    protocol: str,
    rules: Protocol,
    split_name: str,
    split: Split,
    found: Found,
    orientation: str | None,
) -> Dataset:
    ids = sorted({*found.paired, *found.unpaired_photos, *found.unpaired_labels}, key=natural_key)
    kept = ids if found.layout.splits is not None else split.select(ids)
    listed_only = list(found.listed_only)
    if split.listing is not None:
        kept, listed_only = _listed(name, split_name, found.folder / split.listing, kept)
    frames: list[Frame] = []
    between: list[Frame] = []
    lacks_label = split.labeled and not split.sparse  # a photo without one
    for frame_id in kept:
        if frame_id in found.paired:
            photo, overlay, label = found.paired[frame_id]
            files: tuple[Path, Path | None] = (photo, label) if overlay is None else (overlay, label)
            background = None if overlay is None else photo
        elif frame_id in found.unpaired_photos and not lacks_label:
            files, background = (found.unpaired_photos[frame_id], None), None
        else:
            continue
        instances = found.instances.get(frame_id)
        frame = Frame(frame_id, *files, rules.values, background, rules.size, orientation, instances)
        (between if split.sparse and frame.label is None else frames).append(frame)
    return Dataset(
        name,
        root,
        found.layout.name,
        protocol,
        split_name,
        tuple(frames),
        split.count,
        tuple(found.unpaired_photos[i] for i in kept if lacks_label and i in found.unpaired_photos),
        tuple(str(found.unpaired_labels[i]) for i in kept if i in found.unpaired_labels),
        tuple(listed_only),
        tuple(found.unused),
        tuple(between),
        split.sequences,
    )


def _listed(name: str, split: str, listing: Path, ids: list[str]) -> tuple[list[str], list[str]]:
    """Part the photos that a list names into the ids of those that are there, and the names of those that are not."""
    if not listing.is_file():
        raise ImageError(
            f"{name}: split {split}: expected {listing}, the list of its photos that the authors' script writes; there "
            "is none; write it with that script, or choose another split"
        )
    names = listed_photos(listing)
    stems = {Path(photo).stem for photo in names}
    there = set(ids)
    return [i for i in ids if i in stems], [photo for photo in names if Path(photo).stem not in there]
