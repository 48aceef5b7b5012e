"""What sources have in common: they are iterated once, and end when they are closed."""

from __future__ import annotations

import io
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator

import numpy as np

from ..io.extras import import_extra
from ..io.images import as_image
from .frame import BrokenFrame, SourceInfo, VideoFrame


class SourceError(ValueError):
    """A source of frames that cannot be found, opened or read; the message names it."""


class Source(ABC):
    """A source of frames, to be iterated once; also a context manager that closes it.

    A subclass yields its frames in :meth:`_frames` and lets go of what it holds in :meth:`_release`. That runs once, in
    the thread that iterates, or in the one that closes a source that nobody iterated.
    """

    def __init__(self, info: SourceInfo) -> None:
        self._info = info
        self._closed = threading.Event()
        self._begun = False
        self._lock = threading.Lock()

    @property
    def info(self) -> SourceInfo:
        """What it says of itself."""
        return self._info

    @abstractmethod
    def _frames(self) -> Generator[VideoFrame | BrokenFrame, None, None]:
        """Yield the frames in the order in which they are shown."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of files and devices."""

    def __iter__(self) -> Iterator[VideoFrame | BrokenFrame]:
        with self._lock:
            if self._closed.is_set():
                return iter(())
            if self._begun:
                raise RuntimeError(f"{self._info.name}: a source is iterated once; open it again")
            self._begun = True
        return self._until_closed()

    def _until_closed(self) -> Iterator[VideoFrame | BrokenFrame]:
        frames = self._frames()
        try:
            for frame in frames:
                if self._closed.is_set():
                    return
                if self._info.size is None and isinstance(frame, VideoFrame):
                    height, width = frame.photo.shape[:2]
                    self._info.size = height, width
                yield frame
        finally:
            frames.close()
            self._release()

    def close(self) -> None:
        """Let go of files and devices; called from another thread, it ends the iteration."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            begun = self._begun
        if not begun:
            self._release()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def decode_picture(data: bytes) -> np.ndarray:
    """Decode a picture that came as bytes, such as a frame of Motion JPEG, by Pillow.

    FFmpeg's own JPEG decoder gives other pixels, up to tens of levels apart and darker on average.

    Args:
        data: the picture as in a file.

    Returns:
        Photo: [H, W, 3] uint8, RGB.

    Raises:
        SourceError: no picture, one that is cut short, or one of a format that Pillow lacks.
    """
    Image = import_extra("PIL.Image", "decoding pictures")
    broken = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            return as_image(picture)
    except Image.UnidentifiedImageError as error:
        raise SourceError(f"{len(data)} bytes that are no picture") from error
    except broken as error:
        raise SourceError(str(error)) from error
