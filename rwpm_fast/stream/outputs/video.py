"""Write a stream as a video."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...io.extras import import_extra
from ...io.files import UnfinishedFile
from ..frame import DEFAULT_RATE, SourceInfo
from ..result import Outcome, SkippedFrame
from ..summary import Summary
from . import Draw

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_TICKS = 90_000  # per second, of time stamps
_BT709 = 1  # number of primaries, transfer and matrix in the standards of video
_LIMITED = 1  # number of the range 16..235


class VideoOutput:
    """H.264 with the photo's size, the source's time stamps, and the tags of BT.709, in which it is coded.

    Frames that are not scored are left out: a player shows the one before until the next.

    Args:
        file: .mp4, .m4v, .mov or .mkv.
        info: of the source, for its rate.

    Raises:
        ValueError: a file of another suffix.
        ImportError: PyAV is not installed.
    """

    def __init__(self, file: Path, info: SourceInfo) -> None:
        if file.suffix.lower() not in FORMATS:
            raise ValueError(f"--save-video: expected a file {', '.join(FORMATS)}, got {file}")
        self._av = import_extra("av", "--save-video")
        self.name = f"--save-video {file}"
        self._format = FORMATS[file.suffix.lower()]
        self._file = UnfinishedFile(file)
        self._info = info
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] = (0, 0)
        self._start: float | None = None
        self._last = -1  # time stamp, in ticks

    def write(self, outcome: Outcome, draw: Draw) -> None:
        """Encode a frame that was scored.

        Raises:
            ValueError: it has another size than the first.
        """
        if isinstance(outcome, SkippedFrame):
            return
        picture = draw()
        if self._container is None:
            self._open(picture.shape[:2])
        if picture.shape[:2] != self._size:
            sizes = [f"{width}x{height}" for height, width in (self._size, picture.shape[:2])]
            raise ValueError(f"expected frames of {sizes[0]} as the first, got {sizes[1]}; --mcap takes any sizes")
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = self._convert(frame)
        frame.pts, frame.time_base = self._time(outcome), Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def finish(self, summary: Summary) -> None:
        """Encode what waits, write the index, and give the file its name; without any frame there is no file."""
        if self._container is None:
            return
        self._container.mux(self._stream.encode())
        self._container.close()
        self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        with suppress(Exception):  # closing would write what has no room
            self._container.close()
        self._file.discard()

    def _open(self, size: tuple[int, int]) -> None:
        rate = Fraction(self._info.rate or DEFAULT_RATE).limit_denominator(1001)
        self._container = self._av.open(str(self._file.temporary), "w", format=self._format)
        self._size = size
        # Encoding is one thread's work beside network and walk, which need the cores.
        options = {"crf": "18", "preset": "veryfast", "threads": "1"}
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = size
        # Half the resolution of color, as players expect it, needs an even size.
        stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, _TICKS)
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.color_range = _LIMITED
        self._stream = stream

    def _convert(self, frame: Any) -> Any:
        """From RGB to the YUV of BT.709, limited range, by the flags that are not darker than they should be."""
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        flags = (
            Interpolation.BILINEAR
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT
            | Interpolation.FULL_CHR_H_INP
        )
        return frame.reformat(
            format=self._stream.pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=flags,
        )

    def _time(self, outcome: Any) -> int:
        """Time stamp in ticks; those of a file must grow."""
        seconds = outcome.seconds
        if seconds is None:
            seconds = outcome.index / (self._info.rate or DEFAULT_RATE)
        self._start = seconds if self._start is None else self._start
        self._last = max(round((seconds - self._start) * _TICKS), self._last + 1)
        return self._last
