"""Write what became of each frame as a line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from ...io.files import UnfinishedFile, json_ready
from ..result import Outcome, SkippedFrame
from ..summary import Summary
from . import Draw


class JsonLinesOutput:
    """A line for each frame of the source, in order, and a last one with the summary.

    Args:
        file: that it is written to; None for ``stream``.
        stream: open text stream, where each line is written at once.
    """

    def __init__(self, file: Path | None, stream: IO[str] | None = None) -> None:
        self.name = f"--json {'-' if file is None else file}"
        self._file = None if file is None else UnfinishedFile(file)
        self._stream = stream
        if self._file is not None:
            self._stream = self._file.create("w")

    def write(self, outcome: Outcome, draw: Draw) -> None:
        """Write the line of a frame."""
        self._line(describe(outcome))

    def finish(self, summary: Summary) -> None:
        """Write the summary, and give the file its name."""
        self._line({"summary": summary.as_dict()})
        if self._file is not None and self._stream is not None:
            self._stream.close()
            self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.discard()

    def _line(self, content: dict[str, Any]) -> None:
        print(json.dumps(json_ready(content), allow_nan=False), file=self._stream, flush=True)


def describe(outcome: Outcome) -> dict[str, Any]:
    """Return what became of a frame, JSON-ready but for values that are not finite."""
    place = {"index": outcome.index, "seconds": outcome.seconds}
    if isinstance(outcome, SkippedFrame):
        return {**place, "outcome": outcome.outcome, "reason": outcome.reason}
    return {
        **place,
        "outcome": "processed",
        "latency": outcome.latency,
        "stages": outcome.stages,
        "degradations": outcome.degradations,
        "marks": outcome.marks,
        "score": {"mean": float(outcome.score.mean()), "max": float(outcome.score.max())},
    }
