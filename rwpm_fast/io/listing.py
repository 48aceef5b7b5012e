"""The files of folders and patterns: which of them are photos or labels, and which are left out.

Needs neither torch nor NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .files import natural_key
from .text import listed

# What Pillow reads of the formats that photos are kept in.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".jp2", ".j2k", ".jpx", ".tga"),
)
LABEL_SUFFIXES = (".png",)


@dataclass
class Listing:
    """Files that were found, each list in natural order (frame 9 before frame 10).

    Attributes:
        used: files of the wanted suffixes, in any case. Links to files that are gone are among them, so that reading
            them tells.
        unused: the other files. Hidden files and folders are in neither list.
    """

    used: list[Path] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)


def sift(paths: Iterable[Path], suffixes: Iterable[str]) -> Listing:
    """Part files by their suffix.

    Args:
        paths: files, links and folders, such as those of a folder.
        suffixes: of the files to use, in lower case with their dots.
    """
    paths = (path for path in paths if not path.name.startswith(".") and (path.is_file() or is_dead_link(path)))
    return _parted(sorted(paths, key=natural_key), suffixes)


def sift_folder(folder: Path, suffixes: Iterable[str]) -> Listing:
    """Part the files of a folder by their suffix; see :func:`sift`.

    One reading of the folder tells what is a file, where looking at each of 100 000 takes minutes on a network disk.

    Args:
        folder: the folder; those in it are passed over.
        suffixes: of the files to use, in lower case with their dots.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and _is_file(entry)]
    return _parted([folder / name for name in sorted(names, key=natural_key)], suffixes)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link to one or to nothing."""
    return os.path.isfile(entry) or is_dead_link(entry) if entry.is_symlink() else entry.is_file()


def _parted(paths: Iterable[Path], suffixes: Iterable[str]) -> Listing:
    listing = Listing()
    for path in paths:
        (listing.used if path.suffix.lower() in suffixes else listing.unused).append(path)
    return listing


def is_dead_link(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a link to something that is not there."""
    return os.path.islink(path) and not os.path.exists(path)


def unused_text(unused: Iterable[Path]) -> str:
    """Say which files were left out of the photos, in a clause."""
    names = [path.name for path in unused]
    return f"{len(names)} files are no photos by their suffix and not used: {listed(names)}"
