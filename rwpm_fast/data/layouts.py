"""Folder layouts of data sets: patterns of photo and label files, and the search for the one that is on this disk."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..io.images import ImageError
from ..io.listing import IMAGE_SUFFIXES, sift

_WILD = re.compile(r"(\{sequence\}|\{path\}|\{id\}|\{number\}|\*)")
_GROUPS = {
    "{path}": r"(?P<path>[^./][^/]*(?:/[^./][^/]*)*)",  # without hidden folders
    "{sequence}": r"(?P<sequence>[^/]+)",
    "{id}": r"(?P<id>[^/]+)",
    "{number}": r"(?P<number>\d+)",
    "*": r"[^/]*",
}


@dataclass(frozen=True)
class Layout:
    """A layout of photos and labels.

    Patterns are paths with ``{id}`` for the part that photo and label share, ``{sequence}`` for the folder of a
    sequence, which then leads the id, or ``{path}`` for an id that begins with any number of folders, ``{number}`` for
    the running number that some label files have before it, ``{split}`` and ``{ids}`` for what the split and the
    protocol of the data set fill in, and ``*``.

    Attributes:
        name: its name for ``rwpm_fast.data.open_dataset``.
        photos: pattern of photos.
        labels: pattern of label files.
        subfolders: folders under the root that may hold both; "" is the root itself.
        overlays: pattern of the overlays that turn ``photos`` into photos of this data set, found by ``{number}``; None
            if there are none.
        sources: folders under the root that may hold the photos, if they come from another data set; then the labels
            say which photos belong. Empty if photos and labels share a folder.
        frame_id: the frame's id, made of ``{id}`` and ``{number}``.
        listing: file with a JSON list of the photos' names; None without one.
        splits: splits of which such a folder holds one, complete; None if it holds all splits and names tell them
            apart.
        instances: pattern of the files that number the objects; None if there are none. Frames may lack theirs.
    """

    name: str
    photos: str
    labels: str
    subfolders: tuple[str, ...] = ("",)
    overlays: str | None = None
    sources: tuple[str, ...] = ()
    frame_id: str = "{id}"
    listing: str | None = None
    splits: tuple[str, ...] | None = None
    instances: str | None = None

    def filled(self, **words: str) -> Layout:
        """Copy the layout with ``{split}`` and ``{ids}`` of its patterns filled in."""

        def fill(pattern: str) -> str:
            for name, word in words.items():
                pattern = pattern.replace(f"{{{name}}}", word)
            return pattern

        overlays = None if self.overlays is None else fill(self.overlays)
        instances = None if self.instances is None else fill(self.instances)
        return replace(self, photos=fill(self.photos), labels=fill(self.labels), overlays=overlays, instances=instances)

    def described(self) -> str:
        """Say which files it expects, and in which folders."""
        subfolders = " or ".join(f"{folder or '.'}/" for folder in self.subfolders)
        sources = " or ".join(f"{folder or '.'}/" for folder in self.sources)
        photos = f"{self.photos} in {sources}" if sources else self.photos
        overlays = f" with {self.overlays}" if self.overlays else ""
        return f"{photos}{overlays} and {self.labels} in {subfolders}"


@dataclass
class Found:
    """Files of one layout, joined by id.

    Attributes:
        layout: the layout.
        folder: where it was found.
        paired: frame id to photo, overlay or None, and label.
        unpaired_photos: frame id to a photo without a label.
        unpaired_labels: frame id to a label file without its photo or overlay.
        listed_only: names on the data set's own list that have no photo.
        unused: files among the photos that are none by their suffix.
        instances: frame id to the file that numbers its objects, of those that have one.
    """

    layout: Layout
    folder: Path
    paired: dict[str, tuple[Path, Path | None, Path]] = field(default_factory=dict)
    unpaired_photos: dict[str, Path] = field(default_factory=dict)
    unpaired_labels: dict[str, Path] = field(default_factory=dict)
    listed_only: list[str] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    instances: dict[str, Path] = field(default_factory=dict)


def find(layout: Layout, root: Path, source: Path | None = None) -> Found:
    """Find the files of a layout: in the first subfolder that has a pair, else in the one with most files.

    Args:
        layout: with its patterns filled in.
        root: folder of the data set, or the folder around it.
        source: folder of the photos of a layout with ``sources``; None to look below ``root``.

    Raises:
        ImageError: two photos or two label files of one id.
    """
    incomplete = []
    for folder in dict.fromkeys(root / subfolder for subfolder in layout.subfolders):
        for photo_folder in _photo_folders(layout, root, folder, source):
            found = _join(layout, folder, photo_folder)
            if found.paired:
                return found
            incomplete.append(found)
    return max(incomplete, key=_count)


def _photo_folders(layout: Layout, root: Path, folder: Path, source: Path | None) -> list[Path]:
    if not layout.sources:
        return [folder]
    return [root / subfolder for subfolder in layout.sources] if source is None else [source]


def _count(found: Found) -> int:
    return len(found.unpaired_photos) + len(found.unpaired_labels)


def _join(layout: Layout, folder: Path, photo_folder: Path) -> Found:
    found = Found(layout, folder)
    photos, found.unused = _matches(photo_folder, layout.photos)  # (number, id) to path; photos have no number
    labels, _ = _matches(folder, layout.labels)
    overlays, _ = _matches(folder, layout.overlays) if layout.overlays else ({}, [])
    for (number, name), label in labels.items():
        photo, overlay = photos.get(("", name)), overlays.get((number, ""))
        frame = layout.frame_id.format(id=name, number=number)
        if photo is None or (layout.overlays and overlay is None):
            found.unpaired_labels[frame] = label
        elif frame in found.paired:
            raise ImageError(f"{found.paired[frame][2]} and {label}: two label files of one photo")
        else:
            found.paired[frame] = photo, overlay, label
    if layout.instances:
        numbered, _ = _matches(folder, layout.instances)
        found.instances = {layout.frame_id.format(id=name, number=n): path for (n, name), path in numbered.items()}
    if not layout.sources:
        labeled = {name for _, name in labels}
        found.unpaired_photos = {name: path for (_, name), path in photos.items() if name not in labeled}
    if layout.listing and (folder / layout.listing).is_file():
        found.listed_only = [name for name in _names(folder / layout.listing) if ("", Path(name).stem) not in photos]
    return found


def _names(listing: Path) -> list[str]:
    names = _json_list(listing, "file names")
    if not all(isinstance(name, str) for name in names):
        raise ImageError(f"{listing}: expected a JSON list of file names")
    return names


def listed_photos(listing: Path) -> list[str]:
    """Read the paths of photos from an ``.odgt`` file: a JSON list of objects with ``fpath_img``.

    Raises:
        ImageError: it is missing, or holds something else.
    """
    entries = _json_list(listing, "objects with fpath_img")
    if not all(isinstance(entry, dict) and isinstance(entry.get("fpath_img"), str) for entry in entries):
        raise ImageError(f"{listing}: expected a JSON list of objects with fpath_img")
    return [entry["fpath_img"] for entry in entries]


def _json_list(listing: Path, what: str) -> list:
    try:
        entries = json.loads(listing.read_text())
    except OSError as error:
        raise ImageError(f"{listing}: expected a JSON list of {what}: {error.strerror}") from error
    except ValueError as error:
        raise ImageError(f"{listing}: expected a JSON list of {what}: {error}") from error
    if not isinstance(entries, list):
        raise ImageError(f"{listing}: expected a JSON list of {what}, got {type(entries).__name__}")
    return entries


def _matches(folder: Path, pattern: str) -> tuple[dict[tuple[str, str], Path], list[Path]]:
    """Map (number, id) to the path of each file that matches; "" for the one that the pattern lacks.

    Suffixes match in any case; ``*`` as the pattern's stands for those of photos. Second, the files of other suffixes.
    """
    stem, _, suffix = pattern.rpartition(".")
    suffixes = IMAGE_SUFFIXES if suffix == "*" else (f".{suffix}",)
    wildcards = _WILD.sub("*", stem.replace("{path}", "**/*"))
    pieces = _WILD.split(stem)
    regex = re.compile("".join(_GROUPS.get(piece, re.escape(piece)) for piece in pieces) + r"\.[^/.]*")
    found = {path: regex.fullmatch(path.relative_to(folder).as_posix()) for path in folder.glob(f"{wildcards}.*")}
    groups = {path: match.groupdict() for path, match in found.items() if match}
    listing = sift(groups, suffixes)
    matches: dict[tuple[str, str], Path] = {}
    for path in listing.used:
        group = groups[path]
        key = group.get("number", ""), "/".join(group[name] for name in ("sequence", "path", "id") if name in group)
        if key in matches:
            raise ImageError(f"{matches[key]} and {path}: two files of one photo; keep one")
        matches[key] = path
    return matches, listing.unused
