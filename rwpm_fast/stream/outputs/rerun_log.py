"""Write a stream as a recording of Rerun, where rerun-sdk is installed; no extra asks for it."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from ...io.files import UnfinishedFile
from ..result import Outcome, SkippedFrame
from ..summary import Summary
from . import Draw


class RerunOutput:
    """A file .rrd with the overlay, the score, and latency and stages as plots over the frames.

    Args:
        file: the recording.

    Raises:
        ImportError: rerun-sdk is not installed.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._rerun: Any = import_module("rerun")
        except ImportError as error:
            raise ImportError(f"--rerun needs rerun-sdk ({error}): pip install rerun-sdk", name=error.name) from error
        self.name = f"--rerun {file}"
        self._file = UnfinishedFile(file)
        self._recording: Any = self._rerun.RecordingStream("rwpm_fast")
        self._recording.save(str(self._file.temporary))

    def write(self, outcome: Outcome, draw: Draw) -> None:
        """Log a frame."""
        rerun, recording = self._rerun, self._recording
        recording.set_time("frame", sequence=outcome.index)
        if outcome.seconds is not None:
            recording.set_time("time", duration=outcome.seconds)
        if isinstance(outcome, SkippedFrame):
            recording.log("skipped", rerun.TextLog(f"{outcome.outcome}: {outcome.reason}"))
            return
        recording.log("overlay", rerun.Image(draw()).compress(jpeg_quality=90))
        recording.log("score", rerun.Tensor(outcome.score, dim_names=("height", "width")))
        for name, seconds in {"latency": outcome.latency, **outcome.stages}.items():
            recording.log(f"seconds/{name}", rerun.Scalars(seconds))
        if outcome.degradations:
            recording.log("degradations", rerun.TextLog(", ".join(outcome.degradations)))

    def finish(self, summary: Summary) -> None:
        """Write what is buffered, and give the file its name."""
        self._recording.flush()
        self._recording.disconnect()
        self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        with suppress(Exception):
            self._recording.disconnect()
        self._file.discard()
