"""Open what frames come from: files, folders, cameras, addresses, robots' recordings."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ..io.listing import IMAGE_SUFFIXES
from .base import Source, SourceError
from .color import COLORS
from .folder import FolderSource
from .live import open_address, open_camera
from .other_readers import OpenCVSource, TorchcodecSource
from .pyav import VideoSource
from .recording import RecordingSource

READERS = ("auto", "pyav", "torchcodec", "opencv")
_PATTERN = set("*?[")


def open_source(
    source: str | int | os.PathLike[str],
    *,
    topic: str | None = None,
    color: str = "auto",
    reader: str = "auto",
    rate: float | None = None,
) -> Source:
    """Open a source of frames.

    ======================================  ===========================================================================
    source                                  what it is
    ======================================  ===========================================================================
    a folder, a glob pattern, a photo       frames in natural order
    a file ending in .mcap or .bag          a robot's recording: MCAP, ROS 1
    a folder with a metadata.yaml           a robot's recording: ROS 2
    a number, a device such as /dev/video0  a camera
    an address with "://"                   a network stream, such as "rtsp://..." or "http://..."
    any other file                          a video
    ======================================  ===========================================================================

    Args:
        source: see the table.
        topic: of a recording, the topic with the images; None for the only one.
        color: matrix that turns YUV into RGB: "auto" follows the tags, and takes BT.709 from 720 lines up and BT.601
            below where there are none; "bt601", "bt709" and "bt2020" override them. Photos and JPEG frames bring their
            own.
        reader: what decodes a video file or a camera: "pyav", "torchcodec" (files) or "opencv"; "auto" for the first of
            these that is installed. The frames of the others differ, see the notes of the source.
        rate: frames per second of a folder of photos, for their time stamps.

    Returns:
        The source. Iterate it once, and close it.

    Raises:
        ImportError: what reads it is not installed; the message names the extra.
        SourceError: there is no such source, or it cannot be read.
        ValueError: another argument is wrong, or does not go with this source.

    Example::

        with open_source("drive.mp4") as source:
            for frame in source:
                ...
            print(source.info.notes)
    """
    if color not in COLORS:
        raise ValueError(f"color: expected one of {', '.join(COLORS)}, got {color!r}")
    if reader not in READERS:
        raise ValueError(f"reader: expected one of {', '.join(READERS)}, got {reader!r}")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"rate: expected frames per second, more than 0, got {rate}")
    name = os.fspath(source) if not isinstance(source, int) else str(source)
    kind = _kind(name)
    if topic is not None and kind != "recording":
        raise ValueError(
            f"topic: is for recordings (.mcap, .bag, a folder with metadata.yaml), got {topic!r} for {name}"
        )
    if rate is not None and kind != "frames":
        raise ValueError(f"rate: is for folders of photos, got {rate:g} for {name}, which has time stamps")
    if kind == "frames":
        return FolderSource(name, rate)
    if kind == "recording":
        return RecordingSource(name, topic, color)
    if kind == "address":
        return open_address(name, color)
    if kind == "camera":
        device = int(name) if name.isdecimal() else name
        return _first_installed(
            reader,
            pyav=lambda: open_camera(name, device, color, "pyav"),
            opencv=lambda: open_camera(name, device, color, "opencv"),
        )
    return _first_installed(
        reader,
        pyav=lambda: VideoSource(name, color),
        torchcodec=lambda: TorchcodecSource(name, color),
        opencv=lambda: OpenCVSource(name, name, color),
    )


def _kind(name: str) -> str:
    """Return what a source is, by its name and by what is there."""
    path = Path(name)
    if "://" in name:
        return "address"
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise SourceError(f"{name}: the folder cannot be read: permission denied")
        return "recording" if (path / "metadata.yaml").is_file() else "frames"
    if path.exists():
        if stat.S_ISCHR(path.stat().st_mode):
            return "camera"
        suffix = path.suffix.lower()
        if suffix == ".db3":
            raise SourceError(f"{name}: is a part of a ROS 2 bag; give the folder with its metadata.yaml")
        return "recording" if suffix in (".mcap", ".bag") else "frames" if suffix in IMAGE_SUFFIXES else "video"
    if name.isdecimal() or name.startswith("/dev/video"):
        return "camera"
    if _PATTERN & set(name):
        return "frames"
    raise SourceError(
        f"{name}: there is no such file or folder; expected one, a pattern, the number of a camera or an address"
    )


def _first_installed(reader: str, **openers: Callable[[], Source]) -> Source:
    """Open by a reader, or by the first that is installed."""
    if reader != "auto":
        if reader not in openers:
            raise ValueError(f"reader: expected one of {', '.join(('auto', *openers))} for this source, got {reader!r}")
        return openers[reader]()
    missing: ImportError | None = None
    for opener in openers.values():
        try:
            return opener()
        except ImportError as error:
            missing = missing or error
    assert missing is not None
    raise missing
