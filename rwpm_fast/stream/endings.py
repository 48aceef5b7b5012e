"""What a source gave against what it declares: the frames that are broken, marked or missing at its end."""

from __future__ import annotations

import os
import re
import struct
from typing import Any

from .frame import BrokenFrame, VideoFrame

# Of containers that declare one duration for sound and picture: sound may be longer by so many seconds.
_SOUND_LONGER = 1.0
_MICROSECONDS = 1e-6


class Tally:
    """Counts the frames of a source, and compares them with what it declares."""

    def __init__(self) -> None:
        self._frames = 0
        self._broken = 0
        self._marks: dict[str, int] = {}
        self._first: float | None = None
        self._last: float | None = None

    def count(self, frame: VideoFrame | BrokenFrame) -> None:
        """Count a frame."""
        self._frames += 1
        if isinstance(frame, BrokenFrame):
            self._broken += 1
        else:
            for mark in frame.marks:
                self._marks[mark] = self._marks.get(mark, 0) + 1
        if frame.seconds is not None:
            self._first = frame.seconds if self._first is None else self._first
            self._last = frame.seconds if self._last is None else max(self._last, frame.seconds)

    def notes(self, declared: tuple[float, float] | None, frames: int, rate: float | None) -> list[str]:
        """Say in words what is broken, marked or missing.

        Args:
            declared: the duration that the source declares, in seconds, and by how much it may be off.
            frames: the number of frames that it declares; 0 if it declares none.
            rate: frames per second, on average; None if unknown.
        """
        notes = []
        if self._broken:
            notes.append(f"{self._broken} of {self._frames} frames are broken")
        notes.extend(f"{count} of {self._frames} frames: {mark}" for mark, count in self._marks.items())
        if not self._frames:
            notes.append("no frames")
        if frames > self._frames:
            notes.append(f"declares {frames} frames and gives {self._frames}")
        if declared is not None and self._first is not None and self._last is not None:
            duration, slack = declared
            interval = 1 / rate if rate else 0.0
            # Some containers declare the time of the end, others the time from the first frame.
            end = max(self._last, self._last - self._first) + interval
            if end < duration - max(slack, 0.75 * interval, 0.02):
                missing = round((duration - end) * rate) if rate else 0
                count = f", about {missing} frame{'s' * (missing != 1)}" if rate else ""
                notes.append(
                    f"declares {duration:.2f} s; its last frame is at {self._last:.2f} s: "
                    f"{duration - end:.2f} s{count} are missing"
                )
        return notes


def ends_within_a_box(path: str) -> bool:
    """Whether an MP4 file is shorter than its boxes say: one in fragments declares no duration that tells."""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        at = 0
        while at + 8 <= length:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1 and at + 16 <= length:
                (size,) = struct.unpack(">Q", file.read(8))
            if size < 8 or not kind.isalnum():  # to the end of the file, or nothing that can be followed
                return False
            at += size
    return at != length


def declared_seconds(container: Any, stream: Any) -> tuple[float, float] | None:
    """Return how long PyAV's container says that a video lasts, in seconds, and by how much that may be off."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base), 0.0
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, tag.groups())
        return 3600 * hours + 60 * minutes + seconds, 0.0
    if container.duration is not None:
        return container.duration * _MICROSECONDS, 0.0 if len(container.streams) == 1 else _SOUND_LONGER
    return None
