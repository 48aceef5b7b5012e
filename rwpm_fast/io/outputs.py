"""Check, before any work, that what will be written replaces neither what is read nor another result.

Needs neither torch nor NumPy.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path


class OutputError(ValueError):
    """A result that would replace an input or another result; the message names both."""


def check_outputs(
    outputs: Iterable[tuple[object, Path]], inputs: Iterable[str | os.PathLike[str] | None], way_out: str
) -> None:
    """Raise if a file to be written is also read, or is to be written twice.

    Links are followed, and file systems that ignore case are respected. A hard link counts as the file itself: to
    replace it would spare the data, but not the name under which someone keeps it.

    Args:
        outputs: who writes a file (an option, or the photo that it is made of), and the file, there or not.
        inputs: files that are read; a folder stands for the files in it, None for nothing.
        way_out: what the user can do, for the message.

    Raises:
        OutputError: a file of ``outputs`` is one of ``inputs``, or another one of ``outputs``.

    Example:
        >>> check_outputs([("--json", Path("a.json"))], [Path("photo.png")], "give another file")
    """
    outputs = list(outputs)
    _check_apart(outputs, way_out)
    # An input exists, so only outputs that exist can be one: on a first run no input is looked up.
    there = {identity: (who, path) for who, path in outputs if (identity := _identity(path)) is not None}
    if not there:
        return
    for file in _files(inputs):
        if (identity := _identity(file)) in there:
            who, path = there[identity]
            link = "" if path == file else f", the same file as {path}"
            raise OutputError(f"{who}: would replace {file}, which is read{link}; {way_out}")


def _check_apart(outputs: Iterable[tuple[object, Path]], way_out: str) -> None:
    """Raise if two outputs would be one file."""
    # As text, since there may be hundreds of thousands: the hash of a path object, and each look at its parts, is slow.
    seen: dict[str, object] = {}
    folders: dict[str, str] = {}  # resolved once each, since there may be thousands of files in one
    by_folded: dict[str, str] = {}
    for who, path in outputs:
        parent, name = os.path.split(path)
        if parent not in folders:
            folders[parent] = str(Path(parent).resolve())
        place = os.path.join(folders[parent], name)
        if os.path.islink(place):
            place = str(Path(place).resolve())
        folded = place.casefold()
        twin = place if place in seen else by_folded.get(folded)
        if twin is not None and (twin == place or _ignores_case(Path(place).parent)):
            raise OutputError(f"{seen[twin]} and {who}: both would write {path}; {way_out}")
        seen[place] = who
        by_folded[place if folded == place else folded] = place


def _identity(path: Path) -> tuple[int, int] | Path | None:
    """What a path leads to; for a dead link the path where it leads, and None for a path without anything."""
    try:
        status = os.stat(path)
    except OSError:
        return path.resolve() if os.path.islink(path) else None
    return status.st_dev, status.st_ino


def _files(paths: Iterable[str | os.PathLike[str] | None]) -> Iterable[Path]:
    for name in paths:
        if name is not None:
            path = Path(name)
            yield from path.iterdir() if path.is_dir() else [path]


def _ignores_case(folder: Path) -> bool:
    """Whether names that differ in case are one file in a folder; tried out, since no system call tells."""
    while not folder.is_dir():  # it may be made later
        folder = folder.parent
    name = f".rwpm-case-{secrets.token_hex(8)}"
    probe = folder / name
    try:
        probe.touch(exist_ok=False)
    except OSError:
        return False  # not writable, which is told where it is written to
    try:
        return probe.with_name(name.upper()).exists()
    finally:
        probe.unlink()
