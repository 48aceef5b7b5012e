"""Cameras and network streams: frames come when they come, and the source may vanish at any time.

A device may hang within a call that nobody can interrupt. So a thread of its own reads, and whoever iterates waits for
it only so long.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .base import Source, SourceError
from .frame import BrokenFrame, SourceInfo, VideoFrame
from .other_readers import OpenCVSource
from .pyav import Converter, VideoSource, decode, describe, open_container, reader_name

Frames = Iterator[VideoFrame | BrokenFrame]

RECONNECTED = "first after the source was opened again"

_OPEN_SECONDS = 10.0
_READ_SECONDS = 5.0
# How often closing is looked at while waiting.
_TICK = 0.05


class LiveSource(Source):
    """A camera or a network stream, opened again if it breaks off, a few times.

    Args:
        info: what it says of itself.
        connect: opens it, and yields frames; their indices are renumbered. Its errors are SourceError and OSError.
        tries: how often it is opened again in a row before it is taken for gone.
        wait: seconds before the first of these tries; doubled for each one after it.
        patience: seconds without a frame after which it is taken for gone, whatever its thread does.

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(
        self,
        info: SourceInfo,
        connect: Callable[[], Frames],
        *,
        tries: int = 3,
        wait: float = 0.5,
        patience: float = 30.0,
    ) -> None:
        super().__init__(info)
        info.live = True
        self._connect = connect
        self._tries = tries
        self._wait = wait
        self._patience = patience
        self._breaks = 0
        self._broke = ""
        self._frames_read: queue.Queue[VideoFrame | BrokenFrame | None] = queue.Queue(maxsize=2)
        self._connection: Frames | None = (
            connect()
        )  # now, so that a source that is not there is an error before any work

    def _frames(self) -> Generator[VideoFrame | BrokenFrame, None, None]:
        thread = threading.Thread(target=self._read, name=f"frames of {self.info.name}", daemon=True)
        thread.start()
        last = time.monotonic()
        index = 0
        while not self._closed.is_set():
            try:
                frame = self._frames_read.get(timeout=_TICK)
            except queue.Empty:
                if time.monotonic() - last > self._patience:
                    self.info.notes.append(f"no frame for {self._patience:g} s after frame {index - 1}: taken for gone")
                    return
                continue
            if frame is None:
                return
            yield replace(frame, index=index)
            index += 1
            last = time.monotonic()

    def _release(self) -> None:
        """Have the thread close what it has opened, once it looks up."""
        self._closed.set()
        self._connection = None

    def _read(self) -> None:
        try:
            self._read_until_gone()
        finally:  # also after an error that nobody foresaw, which the thread reports
            self._hand_over(None)

    def _read_until_gone(self) -> None:
        """Read, and open again what breaks off."""
        failures = 0
        count = 0
        connection = self._connection
        while not self._closed.is_set():
            reason = "it ended"
            try:
                connection = connection or self._connect()
                fresh = count > 0
                for frame in connection:
                    if fresh and isinstance(frame, VideoFrame):
                        frame = replace(frame, marks=(*frame.marks, RECONNECTED))
                        fresh = False
                    failures = 0
                    count += 1
                    if not self._hand_over(frame):
                        break
            except (SourceError, OSError) as error:
                reason = str(error)
            finally:
                if isinstance(connection, Generator):
                    connection.close()
            connection = None
            if self._closed.is_set():
                return
            failures += 1
            self._note_break(count, reason)
            if failures > self._tries:
                self.info.notes.append(f"taken for gone after {self._tries} tries to open it again")
                return
            self._closed.wait(self._wait * 2 ** (failures - 1))

    def _note_break(self, count: int, reason: str) -> None:
        """Note the last break in place of the one before: a camera that comes and goes for days has many."""
        self._breaks += 1
        if self._breaks > 1:
            self.info.notes.remove(self._broke)
        often = "" if self._breaks == 1 else f" {self._breaks} times, last"
        self._broke = f"broke off{often} after {count} frames: {reason}"
        self.info.notes.append(self._broke)

    def _hand_over(self, frame: VideoFrame | BrokenFrame | None) -> bool:
        """Wait until the frame is taken; False if the source is closed meanwhile."""
        while not self._closed.is_set():
            try:
                self._frames_read.put(frame, timeout=_TICK)
            except queue.Full:
                continue
            return True
        return False


def open_camera(name: str, device: str | int, color: str, reader: str) -> Source:
    """Open a camera.

    Args:
        name: how the caller calls it.
        device: its number, or the path of its device.
        color: see :func:`rwpm_fast.stream.color.choose_color`.
        reader: "pyav" or "opencv".

    Raises:
        ImportError: the reader is missing.
        SourceError: it cannot be opened.
    """
    info = SourceInfo(name, "camera", "")
    if reader == "opencv":
        return LiveSource(info, _connection(lambda: OpenCVSource(name, device, color), info))
    path = f"/dev/video{device}" if isinstance(device, int) else device
    if not Path(path).exists():
        raise SourceError(f"{name}: there is no camera {path}")
    return _open_pyav(name, path, info, color, format="v4l2")


def open_address(name: str, color: str) -> Source:
    """Open a network stream; or a file over the network, which declares how long it lasts and is no live source.

    Args:
        name: its address, such as "rtsp://camera/stream".
        color: see :func:`rwpm_fast.stream.color.choose_color`.

    Raises:
        ImportError: PyAV is missing.
        SourceError: it cannot be opened.
    """
    # By UDP, FFmpeg's first choice, lost datagrams are damaged frames.
    options = {"rtsp_transport": "tcp"} if name.startswith("rtsp") else {}
    return _open_pyav(name, name, SourceInfo(name, "address", ""), color, options=options)


def _open_pyav(name: str, address: str, info: SourceInfo, color: str, **options: Any) -> Source:
    def open_() -> Any:
        return open_container(name, address, timeout=(_OPEN_SECONDS, _READ_SECONDS), **options)

    first = open_()
    if info.kind == "address" and first.duration is not None:
        return VideoSource(name, color, first)
    info.reader = reader_name()
    describe(first, info)
    converter = Converter(color, info)
    opened = [first]

    def connect() -> Frames:
        return _until_broken(opened.pop() if opened else open_(), info, converter)

    return LiveSource(info, connect)


def _until_broken(container: Any, info: SourceInfo, convert: Converter) -> Frames:
    with container:
        yield from decode(container, info, convert, live=True)


def _connection(open_source: Callable[[], OpenCVSource], info: SourceInfo) -> Callable[[], Frames]:
    """Make the frames of a source, opened anew each time, those of a live one."""

    def connect() -> Frames:
        source = open_source()
        info.reader, info.rate = source.info.reader, source.info.rate
        info.notes.extend(note for note in source.info.notes if note not in info.notes)
        return iter(source)

    return connect
