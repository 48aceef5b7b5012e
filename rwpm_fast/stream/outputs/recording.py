"""Write a stream as an MCAP recording that Foxglove shows."""

from __future__ import annotations

import base64
import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...io.extras import import_extra
from ...io.files import UnfinishedFile
from ..frame import DEFAULT_RATE, SourceInfo
from ..result import Outcome, SkippedFrame, StreamResult
from ..summary import Summary
from . import Draw

_QUALITY = 90  # of the overlay's JPEG
_NANOSECONDS = 1_000_000_000
_NUMBER, _TEXT, _COUNT = {"type": "number"}, {"type": "string"}, {"type": "integer", "minimum": 0}
_TIME = {"type": "object", "title": "time", "properties": {"sec": _COUNT, "nsec": _COUNT}}
_BYTES = {"type": "string", "contentEncoding": "base64"}
_HEAD = {"timestamp": _TIME, "frame_id": _TEXT}
_PLACE = {"timestamp": _TIME, "index": _COUNT}
_STAGES = ("decode", "network", "walk", "score")

# Topic: name of the schema, and properties of its messages. Those of foxglove are as its documentation has them.
TOPICS: dict[str, tuple[str, dict[str, Any]]] = {
    "/rwpm/score": (
        "foxglove.RawImage",
        {**_HEAD, "width": _COUNT, "height": _COUNT, "encoding": _TEXT, "step": _COUNT, "data": _BYTES},
    ),
    "/rwpm/overlay": ("foxglove.CompressedImage", {**_HEAD, "data": _BYTES, "format": _TEXT}),
    "/rwpm/latency": (
        "rwpm.Latency",
        {
            **_PLACE,
            "latency": _NUMBER,
            **dict.fromkeys(_STAGES, _NUMBER),
            "degradations": {"type": "array", "items": _TEXT},
        },
    ),
    "/rwpm/skipped": ("rwpm.Skipped", {**_PLACE, "outcome": _TEXT, "reason": _TEXT}),
}


class RecordingOutput:
    """An MCAP file with the topics of :data:`TOPICS`: score (float32), overlay (JPEG), seconds of every stage, and
    frames that were skipped.

    Messages are JSON and carry their schema, so that any reader of MCAP can read them. Their time is the frame's time
    stamp, or its place in the source at the source's rate.

    Args:
        file: the recording.
        info: of the source, for its rate.

    Raises:
        ImportError: mcap or Pillow is not installed.
    """

    def __init__(self, file: Path, info: SourceInfo) -> None:
        writer = import_extra("mcap.writer", "--mcap")
        self._image = import_extra("PIL.Image", "--mcap")
        self.name = f"--mcap {file}"
        self._info = info
        self._file = UnfinishedFile(file)
        self._bytes = self._file.create()
        self._writer = writer.Writer(self._bytes)
        self._writer.start(library="rwpm_fast")
        self._channels = {}
        for topic, (name, properties) in TOPICS.items():
            schema = {"title": name, "type": "object", "properties": properties}
            number = self._writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
            self._channels[topic] = self._writer.register_channel(topic, "json", number)

    def write(self, outcome: Outcome, draw: Draw) -> None:
        """Write the messages of a frame."""
        seconds = outcome.seconds
        if seconds is None:
            seconds = outcome.index / (self._info.rate or DEFAULT_RATE)
        time = max(round(seconds * _NANOSECONDS), 0)
        stamp = {"sec": time // _NANOSECONDS, "nsec": time % _NANOSECONDS}
        place = {"timestamp": stamp, "index": outcome.index}
        if isinstance(outcome, SkippedFrame):
            self._add("/rwpm/skipped", time, {**place, "outcome": outcome.outcome, "reason": outcome.reason})
            return
        head = {"timestamp": stamp, "frame_id": "camera"}
        self._add("/rwpm/score", time, {**head, **_raw_image(outcome.score)})
        picture = io.BytesIO()
        self._image.fromarray(draw()).save(picture, "JPEG", quality=_QUALITY)
        self._add("/rwpm/overlay", time, {**head, "data": _base64(picture.getvalue()), "format": "jpeg"})
        self._add("/rwpm/latency", time, {**place, **_times(outcome)})

    def finish(self, summary: Summary) -> None:
        """Write the summary as metadata, then the index, and give the file its name."""
        self._writer.add_metadata("rwpm_fast stream", {"summary": json.dumps(summary.as_dict())})
        self._writer.finish()
        self._bytes.close()
        self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        with suppress(Exception):  # closing writes what is buffered
            self._bytes.close()
        self._file.discard()

    def _add(self, topic: str, time: int, message: dict[str, Any]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        self._writer.add_message(self._channels[topic], time, data, time)


def _raw_image(score: np.ndarray) -> dict[str, Any]:
    height, width = score.shape
    data = score.astype("<f4").tobytes()
    return {"width": width, "height": height, "encoding": "32FC1", "step": 4 * width, "data": _base64(data)}


def _times(result: StreamResult) -> dict[str, Any]:
    stages = {stage: result.stages.get(stage, 0.0) for stage in _STAGES}
    return {"latency": result.latency, **stages, "degradations": list(result.degradations)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
