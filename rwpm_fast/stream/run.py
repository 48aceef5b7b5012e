"""Score a stream of frames."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from ..scoring.scorer import Scorer
from .frame import FrameSource
from .pipeline import Pipeline
from .result import Outcome, StreamResult
from .settings import StreamSettings
from .sources import open_source
from .stages import ScorerStages, Stages
from .summary import Summary


class Stream:
    """A stream of scored frames, to be iterated once.

    Decoder, network, walk and score run in threads of their own, and what the caller does with a result is one more
    stage: frames a second follow from the slowest stage, not from the sum.

    Args:
        source: of the frames; closed at the end.
        stages: what is done to a frame, such as :class:`rwpm_fast.stream.stages.ScorerStages`.
        settings: of the stream.
        watch: called with every outcome, in order, also of frames that are dropped or broken.

    Attributes:
        source: of the frames.
        summary: of what has come out so far; complete once the stream ended, in whatever way.

    Raises:
        ValueError: at the first frame: a deadline, and frames without any time; or an ``ego_mask`` of another size.
        Exception: of the source, the scorer or ``watch``, after the results before it.

    Example:
        >>> with stream("drive.mp4", scorer, deadline=0.1) as results:
        ...     for result in results:
        ...         print(result.index, result.score.max(), result.latency, result.degradations)
        >>> print(results.summary.processed, results.summary.dropped)
    """

    def __init__(
        self,
        source: FrameSource,
        stages: Stages,
        settings: StreamSettings,
        watch: Callable[[Outcome], None] | None = None,
    ) -> None:
        self.source = source
        self.summary = Summary(settings.deadline)
        self._pipeline = Pipeline(source, stages, settings)
        self._results = self._run(watch)

    def __iter__(self) -> Iterator[StreamResult]:
        """Yield the frames that were scored, in order."""
        return self._results

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def stop(self, reason: str = "stopped") -> None:
        """End soon: frames that wait are dropped, those under way still come out. May be called by a handler of a
        signal, and from any thread.

        Args:
            reason: for the summary.
        """
        self.summary.ended = self.summary.ended or reason
        self._pipeline.stop()

    def close(self) -> None:
        """End now: nothing more comes out, and every frame is accounted for."""
        self._results.close()
        self.source.close()

    def _run(self, watch: Callable[[Outcome], None] | None) -> Generator[StreamResult, None, None]:
        summary, pipeline = self.summary, self._pipeline
        outcomes = iter(pipeline)
        begin: float | None = None
        try:
            for outcome in outcomes:
                now = time.perf_counter()
                if isinstance(outcome, StreamResult):
                    begin = now - outcome.latency if begin is None else begin
                    summary.seconds = now - begin
                summary.add(outcome)
                summary.frames = pipeline.frames
                if watch is not None:
                    watch(outcome)
                if isinstance(outcome, StreamResult):
                    yield outcome
        except BaseException as error:
            summary.ended = summary.ended or f"{type(error).__name__}: {error}"
            raise
        finally:
            outcomes.close()
            for outcome in pipeline.left:
                summary.add(outcome)
            summary.frames = pipeline.frames


def stream(
    source: FrameSource | str | os.PathLike[str] | int,
    scorer: Scorer,
    *,
    deadline: float | None = None,
    all_frames: bool = False,
    settings: StreamSettings | None = None,
    watch: Callable[[Outcome], None] | None = None,
    **opening: Any,
) -> Stream:
    """Score the frames of a video, a folder, a camera or a recording.

    Args:
        source: what :func:`rwpm_fast.stream.open_source` opens, or a source of one's own.
        scorer: with the full walk.
        deadline: seconds from when a frame is there to when its score is; None for none. To keep it, the walk is
            degraded step by step and at last left out; frames that cannot keep it are dropped.
        all_frames: score every frame, however long it takes. Otherwise frames come at the pace of their time stamps,
            and the oldest that waits is dropped where they come too fast.
        settings: all settings of the stream, in place of the defaults; the two above replace its own.
        watch: called with every outcome, in order, also of frames that are dropped or broken.
        opening: further arguments of :func:`rwpm_fast.stream.open_source`, such as ``topic``.

    Returns:
        A :class:`Stream`, to be iterated.

    Raises:
        ValueError: settings out of their range, or a source that cannot be opened.
        OSError: a source that is not there.

    Example:
        >>> for result in stream("drive.mp4", Scorer(networks.load("compact"), walk=Walk()), deadline=0.1):
        ...     print(result.index, result.score.max(), result.latency, result.degradations)
    """
    settings = settings or StreamSettings()
    if deadline is not None or all_frames:
        settings = replace(settings, deadline=deadline, all_frames=all_frames)
    if isinstance(source, (str, os.PathLike, int)):
        source = open_source(source, **opening)
    elif opening:
        raise TypeError(f"{min(opening)}: only for a source that is opened here, got {type(source).__name__}")
    return Stream(source, ScorerStages(scorer, settings), settings, watch)
