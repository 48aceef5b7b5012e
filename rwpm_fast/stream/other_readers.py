"""Decode video files by torchcodec or OpenCV, where PyAV is not installed.

Both convert YUV to RGB on their own, by FFmpeg's defaults: frames are darker by a level on average and differ more at
edges of saturated colors, a file without color tags is read as BT.601 whatever its size, and damage goes unmentioned.
Neither lets a caller choose, so that what they cannot do is said in the notes, or refused.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from .base import Source, SourceError
from .color import HIGH_LINES
from .endings import Tally
from .frame import BrokenFrame, SourceInfo, VideoFrame

_DIFFERS = (
    "converts colors by FFmpeg's defaults, darker by a level on average, and does not report damage; PyAV does better"
)


def require_auto_color(color: str, reader: str) -> None:
    """Raise ValueError if a matrix is asked for of a reader that takes none."""
    if color != "auto":
        raise ValueError(f"color: {reader} takes no matrix, so that only 'auto' can be, got {color!r}; install PyAV")


class TorchcodecSource(Source):
    """A video file, by torchcodec.

    Args:
        name: the file.
        color: "auto"; it takes no other.

    Raises:
        ImportError: torchcodec is missing, or the FFmpeg libraries that it needs.
        SourceError: the file cannot be opened.
        ValueError: a color other than "auto".
    """

    def __init__(self, name: str, color: str = "auto") -> None:
        require_auto_color(color, "torchcodec")
        decoders = import_torchcodec()
        try:
            self._decoder: Any = decoders.VideoDecoder(name, dimension_order="NHWC")
        except (RuntimeError, ValueError) as error:
            raise SourceError(f"{name}: cannot be opened as a video: {_first_line(error)}") from error
        declared = self._decoder.metadata
        notes = [f"torchcodec {_DIFFERS}"]
        if declared.color_space is None:
            notes.append(_untagged(declared.height))
        super().__init__(
            SourceInfo(
                name,
                "video",
                f"torchcodec {version('torchcodec')}",
                rate=declared.average_fps_from_header or declared.average_fps,
                frames=declared.num_frames_from_header,
                notes=notes,
            )
        )

    def _frames(self) -> Generator[VideoFrame | BrokenFrame, None, None]:
        declared = self._decoder.metadata
        tally = Tally()
        for index in range(len(self._decoder)):
            try:
                frame = self._decoder.get_frame_at(index)
            except (RuntimeError, IndexError) as error:
                self.info.notes.append(f"reading failed: {_first_line(error)}")
                break
            given = VideoFrame(index, float(frame.pts_seconds), np.ascontiguousarray(frame.data.numpy()))
            tally.count(given)
            yield given
        duration = declared.duration_seconds_from_header
        self.info.notes.extend(
            tally.notes((duration, 0.0) if duration else None, self.info.frames or 0, self.info.rate)
        )

    def _release(self) -> None:
        self._decoder = None


class OpenCVSource(Source):
    """A video file or a camera, by OpenCV.

    Time stamps count from the first frame of a file.

    Args:
        name: how the caller calls it.
        address: the file, or the number of a camera.
        color: "auto"; it takes no other.

    Raises:
        ImportError: OpenCV is missing.
        SourceError: it cannot be opened.
        ValueError: a color other than "auto".
    """

    def __init__(self, name: str, address: str | int, color: str = "auto") -> None:
        require_auto_color(color, "OpenCV")
        cv2 = import_opencv()
        self._capture = cv2.VideoCapture(address)
        if not self._capture.isOpened():
            raise SourceError(f"{name}: cannot be opened as a video; OpenCV does not say why")
        self._cv2 = cv2
        lines = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        notes = [f"OpenCV {_DIFFERS}", f"OpenCV tells no color tags: if the file has none, {_untagged(lines)}"]
        rate = self._capture.get(cv2.CAP_PROP_FPS) or None
        super().__init__(SourceInfo(name, "video", f"OpenCV {cv2.__version__}", rate=rate, notes=notes))

    def _frames(self) -> Generator[VideoFrame | BrokenFrame, None, None]:
        tally = Tally()
        for index, (seconds, photo) in enumerate(self._read()):
            frame = VideoFrame(index, seconds, photo)
            tally.count(frame)
            yield frame
        self.info.notes.extend(tally.notes(None, 0, self.info.rate))

    def _read(self) -> Iterator[tuple[float, np.ndarray]]:
        while True:
            there, pixels = self._capture.read()
            if not there:  # OpenCV does not tell an end from an error
                return
            # Asked for before the read, it would be the time of the frame before.
            seconds = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
            yield seconds, np.ascontiguousarray(pixels[..., ::-1])

    def _release(self) -> None:
        self._capture.release()


def import_torchcodec() -> Any:
    """Import torchcodec, or say what is missing.

    Raises:
        ImportError: it is not installed, or cannot load the FFmpeg libraries.
    """
    return _import("torchcodec.decoders", "torchcodec, the shared libraries of FFmpeg and the torch it was built for")


def import_opencv() -> Any:
    """Import OpenCV, or say what is missing.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    return _import("cv2", "OpenCV (opencv-python-headless)")


def _import(module: str, needs: str) -> Any:
    try:
        return import_module(module)
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f"reader: {module.partition('.')[0]} needs {needs} ({_first_line(error)}); "
            "or read by PyAV, which brings its own FFmpeg: pip install 'rwpm-fast[video]'"
        ) from error


def _untagged(lines: int) -> str:
    wrong = f"; from {HIGH_LINES} lines up BT.709 is usual: expect other colors" if lines >= HIGH_LINES else ""
    return f"colors: BT.601, as FFmpeg assumes for a file without tags{wrong}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
