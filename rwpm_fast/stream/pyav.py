"""Decode a video by PyAV: every frame that is there, upright, in colors of our choice, with what may be wrong with it.

PyAV comes first among the readers because it alone hands out what the others keep to themselves: the planes before
their conversion to RGB, time stamps, packets, and so those whose frames are missing, and the decoder's word on damage.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..io.extras import import_extra
from .base import Source, SourceError, decode_picture
from .color import MATRICES, ColorChoice, choose_color
from .endings import Tally, declared_seconds, ends_within_a_box
from .frame import BrokenFrame, SourceInfo, VideoFrame
from .ledger import DAMAGED, Ledger

# Of swscale: bilinear, with accurate rounding, and chroma at full resolution in and through. With fewer of them frames
# are off by a level or two, darker for the most part. By number: PyAV names them only from version 18 on.
_SWSCALE_FLAGS = 0x2 | 0x40000 | 0x2000 | 0x4000
_SWSCALE_MATRICES = dict(zip(MATRICES, (5, 1, 9), strict=True))
_LIMITED, _FULL = 1, 2
_ATTACHED_PICTURE = 0x400

# Formats whose frames end where the next one begins: of the last, nobody can tell whether it is whole.
_OPEN_ENDED = {"mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "vvc"}
LAST = "last of a stream that does not say where its frames end: may be cut"

# So many errors in a row end the reading of a file.
_ERRORS_IN_A_ROW = 8


def open_container(name: str, address: str, **options: Any) -> Any:
    """Open a file or an address by PyAV.

    Args:
        name: how the caller calls it, for messages.
        address: the file, address or device.
        options: for ``av.open``.

    Raises:
        ImportError: PyAV is missing.
        SourceError: it cannot be opened, or has no video.
    """
    av = import_extra("av", "reading videos")
    try:
        container = av.open(address, metadata_errors="replace", **options)
    except (av.FFmpegError, OSError) as error:
        cut = (
            "; an MP4 that was cut has lost its index" if Path(name).suffix.lower() in (".mp4", ".mov", ".m4v") else ""
        )
        raise SourceError(f"{name}: cannot be opened as a video: {_text(error)}{cut}") from error
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None or stream.disposition.value & _ATTACHED_PICTURE:
        container.close()
        raise SourceError(f"{name}: has no video that can be decoded")
    return container


class VideoSource(Source):
    """A video file, by PyAV.

    Args:
        name: the file.
        color: see :func:`rwpm_fast.stream.color.choose_color`.
        container: what :func:`open_container` gave for something other than a file of this name.

    Raises:
        ImportError: PyAV is missing.
        SourceError: the file cannot be opened, or has no video.
    """

    def __init__(self, name: str, color: str = "auto", container: Any = None) -> None:
        notes: list[str] = []
        info = SourceInfo(name, "video", reader_name(), notes=notes)
        self._converter = Converter(color, info)
        self._container = container or _open_file(name, notes)
        super().__init__(info)
        describe(self._container, info)

    def _frames(self) -> Generator[VideoFrame | BrokenFrame, None, None]:
        return decode(self._container, self.info, self._converter)

    def _release(self) -> None:
        self._container.close()


def _open_file(name: str, notes: list[str]) -> Any:
    """Open a file, and note what its end tells."""
    try:
        container = open_container(name, name)
    except SourceError:
        # Of a fragmented MP4 whose last fragment is cut within its header not even the first frame is to be had, unless
        # the demuxer is kept from looking at all fragments first.
        container = open_container(name, name, options={"seekable": "0"})
        notes.append("its end cannot be parsed: read from the beginning, as far as it goes")
    if "mp4" in container.format.name and ends_within_a_box(name):
        notes.append("ends within a box of MP4: the file is cut")
    return container


def reader_name() -> str:
    """Return the name and version of PyAV."""
    return f"PyAV {import_extra('av', 'reading videos').__version__}"


def describe(container: Any, info: SourceInfo) -> None:
    """Enter into ``info`` what a container declares of its video."""
    stream = container.streams.best("video")
    info.rate = float(stream.average_rate) if stream.average_rate else None
    info.frames = stream.frames or None
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if ratio and ratio != 1:
        info.notes.append(f"pixels are {ratio} as wide as high; frames are given as stored")


def decode(
    container: Any, info: SourceInfo, convert: Converter, *, live: bool = False
) -> Generator[VideoFrame | BrokenFrame, None, None]:
    """Yield the frames of a container's video, and complete the notes of ``info``.

    Args:
        container: from :func:`open_container`; it is left open.
        info: takes the notes.
        convert: makes photos of its frames.
        live: whether frames are wanted as they come, without a look at what follows.

    Raises:
        SourceError: a live stream cannot be read on.
    """
    stream = container.streams.best("video")
    packets = _packets(container, stream, info, live)
    tally = Tally()
    if stream.codec_context.name == "mjpeg":
        frames = _pictures(packets)
    else:
        frames = _decoded(packets, stream, container.format.name, convert, info, live)
    for frame in frames:
        tally.count(frame)
        yield frame
    if not live:
        rate = float(stream.average_rate) if stream.average_rate else None
        info.notes.extend(tally.notes(declared_seconds(container, stream), stream.frames, rate))


def _packets(container: Any, stream: Any, info: SourceInfo, live: bool) -> Iterator[Any]:
    """Yield the packets of a stream, also those after one that cannot be read."""
    av = import_extra("av", "reading videos")
    failures = 0
    while True:
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and packet.dts is None:  # asks to empty the decoder, which is done at the end
                    continue
                failures = 0
                yield packet
            return
        except (av.FFmpegError, OSError) as error:
            if live:
                raise SourceError(_text(error)) from error
            failures += 1
            note = f"reading failed: {_text(error)}"
            if note not in info.notes:
                info.notes.append(note)
            if failures == _ERRORS_IN_A_ROW:
                return


def _decoded(
    packets: Iterator[Any], stream: Any, container_format: str, convert: Converter, info: SourceInfo, live: bool
) -> Iterator[VideoFrame | BrokenFrame]:
    """Decode packets, and account for each."""
    av = import_extra("av", "reading videos")
    context = stream.codec_context
    # With threads within a frame, PyAV's choice, the decoder keeps damage to itself; with threads over several frames
    # its errors come late, and the last of them cost whole frames. One thread does 1920x1080 at 120 frames a second.
    context.thread_count = 1
    context.copy_opaque = True  # hands the packet's entry on to its frame
    ledger: Ledger[Any] = Ledger(convert)
    open_ended = not live and bool(_OPEN_ENDED & set(container_format.split(",")))
    for packet, is_last in _with_last(packets) if open_ended else ((packet, False) for packet in packets):
        entry = packet.opaque = ledger.sent(
            _seconds(packet),
            key=packet.is_keyframe,
            mark=DAMAGED if packet.is_corrupt else LAST if is_last else "",
            silent=packet.is_discard or packet.size == 0 or _is_hidden(packet, context.name),
        )
        try:
            decoded = context.decode(packet)
        except (av.FFmpegError, OSError) as error:
            yield from ledger.failed(entry, _text(error))
            continue
        for frame in decoded:
            yield from ledger.received(frame.opaque, frame, flagged=frame.is_corrupt)
    with suppress(av.FFmpegError, OSError):  # whatever is left in the decoder then, counts as lost
        for frame in context.decode(None):
            yield from ledger.received(frame.opaque, frame, flagged=frame.is_corrupt)
    yield from ledger.end()
    if ledger.surplus:
        info.notes.append(f"{ledger.surplus} frames without a packet, or long after their time, are left out")


def _pictures(packets: Iterator[Any]) -> Iterator[VideoFrame | BrokenFrame]:
    """Decode the packets of Motion JPEG, each a picture, as pictures are decoded everywhere here."""
    for index, packet in enumerate(packets):
        try:
            photo = decode_picture(bytes(packet))
        except SourceError as error:
            yield BrokenFrame(index, _seconds(packet), str(error))
        else:
            yield VideoFrame(index, _seconds(packet), photo)


def _with_last(packets: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each packet, and whether it is the last."""
    before = next(packets, None)
    while before is not None:
        packet = next(packets, None)
        yield before, packet is None
        before = packet


def _seconds(packet: Any) -> float | None:
    return None if packet.pts is None else float(packet.pts * packet.time_base)


def _is_hidden(packet: Any, codec: str) -> bool:
    """Whether a packet only serves others: VP8 keeps such frames in packets of their own."""
    return codec == "vp8" and not bytes(packet)[0] >> 4 & 1


def _text(error: Exception) -> str:
    """Return what FFmpeg says, without the number and the name of the file."""
    return getattr(error, "strerror", None) or str(error)


class Converter:
    """Frames of PyAV to photos.

    Args:
        color: see :func:`rwpm_fast.stream.color.choose_color`.
        info: takes the notes on what was chosen.

    Raises:
        ValueError: "bt2020" for a PyAV that cannot set this matrix, but only follow the tags.
    """

    def __init__(self, color: str, info: SourceInfo) -> None:
        self._color = color
        self._info = info
        self._choices: dict[tuple[int, bool, int, int], ColorChoice] = {}
        reformatter = import_extra("av.video.reformatter", "reading videos")
        if color == "bt2020" and not hasattr(reformatter.Colorspace, "BT2020"):
            raise ValueError("color: 'bt2020' needs PyAV 18 or later, unless the file is tagged with it")
        self._reformatter = reformatter.VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        """Convert a frame to [H, W, 3] uint8, upright."""
        choice = self._choice(frame)
        rgb = self._reformatter.reformat(
            frame,
            format="rgb24",
            interpolation=_SWSCALE_FLAGS,
            src_colorspace=_SWSCALE_MATRICES[choice.matrix],
            src_color_range=_FULL if choice.full else _LIMITED,
            dst_color_range=_FULL,
        )
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), round(frame.rotation / 90)))

    def _choice(self, frame: Any) -> ColorChoice:
        """Return matrix and range of a frame; what is noteworthy about it is noted once."""
        has_matrix = not frame.format.is_rgb and len(frame.format.components) >= 3
        tag = int(frame.colorspace) if has_matrix else 0
        full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
        key = (tag, full, frame.height, int(getattr(frame, "color_trc", 2)))
        if key not in self._choices:
            self._choices[key] = choose_color(self._color, tag=tag, full=full, lines=frame.height, transfer=key[3])
            fields = ("interlaced: both fields of a frame are shown together",) if frame.interlaced_frame else ()
            for note in (*self._choices[key].notes, *fields):
                if note not in self._info.notes:
                    self._info.notes.append(note)
        return self._choices[key]
