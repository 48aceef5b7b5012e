"""Write files of results whole or not at all, check their folders before the work, and sort names in natural order.

Needs neither torch nor NumPy.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO


def natural_key(name: str | os.PathLike[str]) -> tuple[list[str | int], str]:
    """Sort key for natural order: frame 9 before frame 10."""
    # Splitting at runs of digits alternates text and number, so that text is only compared with text.
    pieces = re.split(r"(\d+)", str(name).lower())
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], str(name)


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all: a reader sees the old content or the new, also after a crash.

    Args:
        path: the file, replaced if it exists. Devices and pipes, such as /dev/stdout, are written into.
        write: called with a binary file, writes the content to it.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full. The message names ``path``; an old file
            stays, and nothing else is left behind.
    """
    path = Path(path)
    if _is_device(path):
        with open(path, "wb") as file:
            write(file)
        return
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # NumPy reports a short write without the system's reason
            raise OSError(f"cannot write {path}: {error}; is the disk full?") from error
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
    finally:
        if temporary.exists():
            temporary.unlink()


class UnfinishedFile:
    """A file that is written bit by bit, and has its name only once it is whole.

    Args:
        path: its name in the end. Devices and pipes, such as /dev/stdout, are written into at once.

    Attributes:
        path: as given.
        temporary: name to write to meanwhile, in the same folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.temporary = self.path if _is_device(self.path) else _temporary(self.path)

    def create(self, mode: str = "wb") -> IO[Any]:
        """Open it for writing, in a mode of ``open``; text is UTF-8."""
        return open(self.temporary, mode, encoding=None if "b" in mode else "utf-8")

    def finish(self) -> None:
        """Give the file its name, and replace an older one; it must be closed.

        Raises:
            OSError: it cannot be stored, or not be renamed.
        """
        if self.temporary != self.path:
            with open(self.temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self.temporary, self.path)

    def discard(self) -> None:
        """Remove what was written; an older file of the name stays."""
        if self.temporary != self.path:
            self.temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    # In the same folder, since a file can be renamed atomically only within its file system.
    return path.parent / f".rwpm-{secrets.token_hex(8)}.tmp"


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed within :func:`atomic_write` left in a folder.

    Args:
        folder: that no other process writes to meanwhile.

    Raises:
        OSError: a file cannot be removed.
    """
    for file in folder.glob(".rwpm-*.tmp"):
        file.unlink()


def _is_device(path: Path) -> bool:
    """Whether a path stands for something that takes bytes and must not be replaced by a file."""
    folder = path.parent.resolve()  # of /dev/fd in /proc
    return (
        folder == Path("/dev")
        or folder.is_relative_to("/proc")
        or (path.exists() and not (path.is_file() or path.is_dir()))
    )


def make_folder(path: Path, option: str) -> None:
    """Make a folder for results if it does not exist.

    Args:
        path: the folder.
        option: name of the option that gave the path, for messages.

    Raises:
        OSError: there can be no folder at this path.
        PermissionError: the folder is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        wanted = "expected a folder, or a path to make one at"
        raise type(error)(f"{option}: {wanted}, got {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{option}: the folder {path} is not writable")


def make_folder_of(path: Path, option: str) -> None:
    """Make the folder of a file of results, before the work that computes them.

    Args:
        path: the file.
        option: name of the option that gave the path, for messages.

    Raises:
        IsADirectoryError: the path is a folder.
        OSError: the folder cannot be made or written to.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{option}: expected a file, got the folder {path}")
    if not _is_device(path):
        make_folder(path.parent, option)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that every parser reads: null stands for NaN and infinities.

    Args:
        path: the file, replaced if it exists.
        content: mappings, lists, tuples, strings, numbers and None, nested as they may be.

    Raises:
        OSError: see :func:`atomic_write`.
    """
    write_text(path, json.dumps(json_ready(content), indent=2, allow_nan=False) + "\n")


def json_ready(content: Any) -> Any:
    """Return content for :func:`write_json` with lists for tuples, and None for NaN and infinities."""
    if isinstance(content, Mapping):
        return {name: json_ready(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [json_ready(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all; see :func:`atomic_write`. Names that are not UTF-8 are escaped."""
    atomic_write(path, lambda file: file.write(text.encode(errors="backslashreplace")))
