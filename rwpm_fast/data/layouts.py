"""How copies of a data set lie on disk: patterns of photo and label files, and the search for the one that is there."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..io.images import IMAGE_SUFFIXES, ImageError

_WILD = re.compile(r"(\{id\}|\{number\}|\*)")
_GROUPS = {"{id}": r"(?P<id>[^/]+)", "{number}": r"(?P<number>\d+)", "*": r"[^/]*"}


@dataclass(frozen=True)
class Layout:
    """A layout of photos and labels.

    Patterns are paths with ``{id}`` for what photo and label share, ``{number}`` for the running number that some
    label files have before it, ``{split}`` and ``{ids}`` for what the data set's split and protocol fill in, and ``*``.

    Attributes:
        name: what ``rwpm_fast.data.open`` calls it.
        photos: pattern of photos.
        labels: pattern of label files.
        places: folders under the root in which both may lie, "" for the root itself.
        overlays: pattern of the overlays that make ``photos`` the data set's, found by ``{number}``; None without.
        sources: folders under the root in which photos may lie where they come from another data set; none where they
            lie beside the labels. Labels then say which photos belong.
        frame_id: the frame's id, of ``{id}`` and ``{number}``.
        listing: JSON list of the photos' names; None without.
        splits: splits that such a folder holds whole; None where it holds all, and names tell them apart.
    """

    name: str
    photos: str
    labels: str
    places: tuple[str, ...] = ("",)
    overlays: str | None = None
    sources: tuple[str, ...] = ()
    frame_id: str = "{id}"
    listing: str | None = None
    splits: tuple[str, ...] | None = None

    def filled(self, **words: str) -> Layout:
        """Copy whose patterns have ``{split}`` and ``{ids}`` filled in."""

        def fill(pattern: str | None) -> str | None:
            for name, word in words.items():
                pattern = pattern and pattern.replace(f"{{{name}}}", word)
            return pattern

        changed = {name: fill(getattr(self, name)) for name in ("photos", "labels", "overlays")}
        return replace(self, **changed)

    def described(self) -> str:
        """What it looks for and where."""
        places = " or ".join(f"{place or '.'}/" for place in self.places)
        sources = " or ".join(f"{place or '.'}/" for place in self.sources)
        photos = f"{self.photos} in {sources}" if sources else self.photos
        more = f" with {self.overlays}" if self.overlays else ""
        return f"{photos}{more} and {self.labels} in {places}"


@dataclass
class Found:
    """Files of one layout, joined by id.

    Attributes:
        layout: the layout.
        place: folder that it was found in.
        paired: frame id to photo, overlay or None, and label.
        photos_alone: frame id to a photo without a label.
        labels_alone: frame id to a label file without its photo or overlay.
        listed_alone: names on the data set's own list that have no photo.
    """

    layout: Layout
    place: Path
    paired: dict[str, tuple[Path, Path | None, Path]] = field(default_factory=dict)
    photos_alone: dict[str, Path] = field(default_factory=dict)
    labels_alone: dict[str, Path] = field(default_factory=dict)
    listed_alone: list[str] = field(default_factory=list)


def find(layout: Layout, root: Path, source: Path | None = None) -> Found:
    """Files of a layout under ``root``, in the first of its places that has a pair, else in the one with most files.

    Args:
        layout: with its patterns filled in.
        root: folder of the data set, or the folder around it.
        source: where the photos of a layout with ``sources`` lie; None to look below ``root``.

    Raises:
        ImageError: two photos or two label files of one id.
    """
    most = None
    for place in dict.fromkeys(root / place for place in layout.places):
        for photo_place in _photo_places(layout, root, place, source):
            found = _join(layout, place, photo_place)
            if found.paired:
                return found
            if most is None or _files(found) > _files(most):
                most = found
    return most


def _photo_places(layout: Layout, root: Path, place: Path, source: Path | None) -> list[Path]:
    if not layout.sources:
        return [place]
    return [root / folder for folder in layout.sources] if source is None else [source]


def _files(found: Found) -> int:
    return len(found.photos_alone) + len(found.labels_alone)


def _join(layout: Layout, place: Path, photo_place: Path) -> Found:
    photos = _matches(photo_place, layout.photos, photos=True)  # key to path; a photo's number is never known
    labels = _matches(place, layout.labels)
    overlays = _matches(place, layout.overlays) if layout.overlays else {}
    found = Found(layout, place)
    for (number, name), label in labels.items():
        photo, overlay = photos.get(("", name)), overlays.get((number, ""))
        frame = layout.frame_id.format(id=name, number=number)
        if photo is None or (layout.overlays and overlay is None):
            found.labels_alone[frame] = label
        elif frame in found.paired:
            raise ImageError(f"{found.paired[frame][2]} and {label}: two label files of one photo")
        else:
            found.paired[frame] = photo, overlay, label
    if not layout.sources:
        labeled = {name for _, name in labels}
        found.photos_alone = {name: path for (_, name), path in photos.items() if name not in labeled}
    if layout.listing and (place / layout.listing).is_file():
        found.listed_alone = [name for name in _names(place / layout.listing) if ("", Path(name).stem) not in photos]
    return found


def _names(listing: Path) -> list[str]:
    try:
        names = json.loads(listing.read_text())
    except ValueError as error:
        raise ImageError(f"{listing}: expected a JSON list of file names: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ImageError(f"{listing}: expected a JSON list of file names")
    return names


def _matches(place: Path, pattern: str, *, photos: bool = False) -> dict[tuple[str, str], Path]:
    """(number, id) to path of the files that match, "" for what the pattern does not have."""
    pieces = _WILD.split(pattern)
    regex = re.compile("".join(_GROUPS.get(piece, re.escape(piece)) for piece in pieces))
    matches: dict[tuple[str, str], Path] = {}
    for path in sorted(place.glob(_WILD.sub("*", pattern))):
        match = regex.fullmatch(path.relative_to(place).as_posix())
        if match is None or path.name.startswith(".") or not path.is_file():
            continue
        if photos and path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        groups = match.groupdict()
        key = groups.get("number", ""), groups.get("id", "")
        if key in matches:
            raise ImageError(f"{matches[key]} and {path}: two files of one photo; keep one")
        matches[key] = path
    return matches
