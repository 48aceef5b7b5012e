"""A file for libraries that do not survive a full disk."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


class LastingFile(io.RawIOBase):
    """A file to read and write that takes everything: from the first error on, what is written stays in memory.

    HDF5 ends its process by a segmentation fault some time after a write that failed, so none may fail. The caller
    looks at ``error`` now and then, and closes and removes the file once there is one.

    Args:
        path: made, or emptied.

    Attributes:
        error: the first error of the system; None as long as everything is on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._place = self._size = 0
        self._kept: list[tuple[int, bytes]] = []  # place and bytes that are not on the disk, oldest first
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        content, done = bytes(data), 0
        try:
            while self.error is None and done < len(content):
                done += os.pwrite(self._number, content[done:], self._place + done)
        except OSError as error:
            self.error = error
        if done < len(content):
            self._kept.append((self._place + done, content[done:]))
        self._place += len(content)
        self._size = max(self._size, self._place)
        return len(content)

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._place), 0)
        content = bytearray(os.pread(self._number, count, self._place).ljust(count, b"\0"))
        for place, kept in self._kept:
            first, last = max(place, self._place), min(place + len(kept), self._place + count)
            if first < last:
                content[first - self._place : last - self._place] = kept[first - place : last - place]
        buffer[:count] = content
        self._place += count
        return count

    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._number, self._size)
        except OSError as error:
            self.error = error
        return self._size

    def close(self) -> None:
        if not self.closed:
            os.close(self._number)
        super().close()
