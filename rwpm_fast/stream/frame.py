"""What a source of frames gives: frames, and a word on those that it could not give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame of a source.

    Attributes:
        index: its place in the source, from 0; frames that are broken count.
        seconds: its time stamp, in the source's own clock; None if it has none.
        photo: [H, W, 3] uint8, RGB, upright.
        marks: what may be wrong with it, in words, such as "decoded after damage"; empty for a frame that is sound.
    """

    index: int
    seconds: float | None
    photo: np.ndarray
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BrokenFrame:
    """A frame that a source has, and that cannot be read.

    Attributes:
        index: its place in the source, from 0.
        seconds: its time stamp, in the source's own clock; None if it has none.
        reason: why, in words.
    """

    index: int
    seconds: float | None
    reason: str


@dataclass
class SourceInfo:
    """What a source says of itself, and what was found while it was read.

    Attributes:
        name: as given, for messages.
        kind: such as "video", "frames", "camera" or "recording".
        reader: what decodes it, with its version, such as "PyAV 14.0".
        size: height and width of its first frame, upright; None before it is known.
        rate: frames per second, on average; None if unknown.
        frames: number of frames that it declares; None if it declares none. Not to be relied on.
        live: whether frames come at their own time, as a camera's do, and wait for nobody.
        notes: what was chosen or found missing, in words, such as the color matrix of a file without tags, or that a
            file ends before its declared duration. Complete once the source is exhausted.
    """

    name: str
    kind: str
    reader: str
    size: tuple[int, int] | None = None
    rate: float | None = None
    frames: int | None = None
    live: bool = False
    notes: list[str] = field(default_factory=list)


DEFAULT_RATE = 25.0  # frames per second of a source that tells neither times nor a rate


class FrameSource(Protocol):
    """A source of frames, to be iterated once."""

    @property
    def info(self) -> SourceInfo:
        """What it says of itself."""
        ...

    def __iter__(self) -> Iterator[VideoFrame | BrokenFrame]:
        """Yield frames in the order in which they are shown."""
        ...

    def close(self) -> None:
        """Let go of files and devices; called from another thread, it ends the iteration."""
        ...
