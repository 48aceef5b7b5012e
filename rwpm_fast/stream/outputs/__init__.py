"""What a stream is written to while it runs. An output that fails costs its own file, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..result import Outcome, StreamResult
from ..summary import Summary

if TYPE_CHECKING:
    from ...viz.overlay import Overlay

Draw = Callable[[], np.ndarray]


class Output(Protocol):
    """Something that takes the frames of a stream one by one.

    Attributes:
        name: for messages, such as "--save-video drive.mp4".
    """

    name: str

    def write(self, outcome: Outcome, draw: Draw) -> None:
        """Take a frame; ``draw`` gives the picture [H, W, 3] uint8 of one that was scored."""
        ...

    def finish(self, summary: Summary) -> None:
        """Make the files whole."""
        ...

    def discard(self) -> None:
        """Remove files that are not whole."""
        ...


class Outputs:
    """Several outputs at once.

    Args:
        overlay: draws their pictures, each once however many outputs want it; None where none does.
        tell: called with a line about an output that failed.

    Attributes:
        failures: a line about each output that failed.
    """

    def __init__(self, overlay: Overlay | None, tell: Callable[[str], None]) -> None:
        self._outputs: list[Output] = []
        self._overlay = overlay
        self._tell = tell
        self.failures: list[str] = []

    def add(self, output: Output) -> None:
        """Add an output, for the frames to come."""
        self._outputs.append(output)

    def write(self, outcome: Outcome) -> None:
        """Give a frame to all outputs that still work."""
        picture: list[np.ndarray] = []

        def draw() -> np.ndarray:
            assert isinstance(outcome, StreamResult) and self._overlay is not None
            if not picture:
                picture.append(self._overlay(outcome.photo, outcome.score))
            return picture[0]

        for output in list(self._outputs):
            self._attempt(output, f"frame {outcome.index}", partial(output.write, outcome, draw))

    def finish(self, summary: Summary) -> None:
        """Make the files of all outputs whole that still work."""
        for output in list(self._outputs):
            self._attempt(output, "the end", partial(output.finish, summary))
        self._outputs.clear()

    def discard(self) -> None:
        """Remove what is not whole."""
        while self._outputs:
            with suppress(Exception):
                self._outputs.pop().discard()

    def _attempt(self, output: Output, where: str, work: Callable[[], None]) -> None:
        try:
            work()
        # Whatever an output's library raises is the output's alone.
        except Exception as error:
            self._outputs.remove(output)
            with suppress(Exception):
                output.discard()
            self.failures.append(f"{output.name}: failed at {where} and was given up: {error}")
            self._tell(self.failures[-1])
