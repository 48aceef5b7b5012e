"""Frames on their way through decoder, network, walk and score, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .channel import Channel, Closed
from .deadline import DeadlineController
from .frame import BrokenFrame, FrameSource, VideoFrame
from .result import LATE, OVERTAKEN, STOPPED, Outcome, SkippedFrame, StreamResult
from .settings import StreamSettings
from .stages import Stages

_POLL = 0.1  # seconds from look to look at what other threads or signal handlers ask for
_PATIENCE = 5.0  # seconds to wait for a source that does not let go


@dataclass(eq=False)
class _Job:
    """A frame on its way.

    Attributes:
        frame: the frame.
        arrived: when it was there, by the clock.
        stages: seconds of each stage so far.
        level: of degradation.
        product: what the last stage gave.
        result: once it is scored.
    """

    frame: VideoFrame
    arrived: float
    stages: dict[str, float] = field(default_factory=dict)
    level: int = 0
    product: Any = None
    result: StreamResult | None = None

    def skipped(self, reason: str) -> SkippedFrame:
        """What becomes of it if it is dropped."""
        return SkippedFrame(self.frame.index, self.frame.seconds, "dropped", reason)

    def broken(self, error: BaseException) -> SkippedFrame:
        """What becomes of it if an error ends it."""
        return SkippedFrame(self.frame.index, self.frame.seconds, "broken", f"{type(error).__name__}: {error}")


_Item = _Job | SkippedFrame


class _Pace:
    """When the frames of a file are due, by their time stamps.

    Args:
        by_stamps: whether their time stamps count; else a frame is due as soon as it is there.
    """

    def __init__(self, by_stamps: bool) -> None:
        self._by_stamps = by_stamps
        self._start: tuple[float, float] | None = None  # by the clock, and by the time stamp

    def due(self, seconds: float | None) -> float:
        """Return when a frame that was just decoded is due, by the clock; now, if that is over."""
        now = time.perf_counter()
        if not self._by_stamps or seconds is None:
            return now
        self._start = self._start or (now, seconds)
        return max(self._start[0] + seconds - self._start[1], now)


class Pipeline:
    """Runs the frames of a source through stages, and yields what becomes of each, in order.

    Frames that were skipped take their place among the others. What the caller does between two outcomes is the last
    stage: while it works, the others go on.

    Args:
        source: iterated once, in a thread of its own, and closed at the end.
        stages: what is done to a frame.
        settings: of the stream.

    Attributes:
        frames: number of frames that the source has given, broken ones among them.
        left: outcomes that the caller did not take, because it went away before the end.
        stopped: whether the stream was asked to end, or has ended.
    """

    def __init__(self, source: FrameSource, stages: Stages, settings: StreamSettings) -> None:
        self._source = source
        self._stages = stages
        self._settings = settings
        self._controller: DeadlineController | None = None
        self._errors: list[BaseException] = []
        self._decoded: Channel[_Item] = Channel(settings.queue)
        self._embedded: Channel[_Item] = Channel(1)
        self._walked: Channel[_Item] = Channel(1)
        self._scored: Channel[_Item] = Channel(2)
        work: tuple[tuple[str, Callable[[], None]], ...] = (
            ("decode", self._decode),
            ("network", lambda: self._run(self._decoded, self._embedded, self._embed, fresh=not settings.all_frames)),
            ("walk", lambda: self._run(self._embedded, self._walked, self._walk)),
            ("score", lambda: self._run(self._walked, self._scored, self._score)),
        )
        self._threads = [threading.Thread(target=target, name=f"rwpm-{name}", daemon=True) for name, target in work]
        self.frames = 0
        self.left: list[Outcome] = []
        self.stopped = False

    def stop(self) -> None:
        """End the stream soon: frames that wait are dropped, those under way come out. May be called by the handler of
        a signal, and from any thread."""
        self.stopped = True

    def __iter__(self) -> Generator[Outcome, None, None]:
        """Yield what becomes of each frame, once.

        Raises:
            Exception: of the source or of a stage, after all that came out before it.
        """
        for thread in self._threads:
            thread.start()
        try:
            closed = False
            while True:
                try:
                    item = self._scored.get(_POLL)
                except TimeoutError:
                    if self.stopped and not closed:
                        self._source.close()  # it may wait for a frame that never comes
                        closed = True
                    continue
                except Closed:
                    break
                yield _outcome(item)
            self._end()
            while self.left:
                yield self.left.pop(0)
        finally:
            self._end()
        if self._errors:
            raise self._errors[0]

    def _end(self) -> None:
        """Stop all threads, and gather what is left on its way."""
        self.stopped = True
        self._cancel()
        self._source.close()
        for thread in self._threads:
            thread.join(_PATIENCE)
        self.left.sort(key=lambda outcome: outcome.index)

    def _cancel(self) -> None:
        for channel in (self._decoded, self._embedded, self._walked, self._scored):
            for item in channel.cancel():
                self._give_up(item)

    def _give_up(self, item: _Item) -> None:
        self.left.append(_outcome(item))

    def _decode(self) -> None:
        """Read the source, at the pace of its time stamps unless it has its own or every frame counts."""
        try:
            frames, pace = iter(self._source), None
            while not self.stopped:
                begin = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                self.frames += 1
                item: _Item
                if isinstance(frame, BrokenFrame):
                    item = SkippedFrame(frame.index, frame.seconds, "broken", frame.reason)
                else:
                    item = job = _Job(frame, 0.0, {"decode": time.perf_counter() - begin})
                    if pace is None:
                        pace = self._begin(job)
                    job.arrived = pace.due(frame.seconds)
                    self._sleep_until(job.arrived)
                try:
                    self._decoded.put(item)
                except Closed:
                    self._give_up(item)
                    break
        except BaseException as error:  # a source that went away: what it gave before is scored all the same
            if not self.stopped:
                self._errors.append(error)
        finally:
            self._decoded.finish()

    def _begin(self, job: _Job) -> _Pace:
        """Run the first frame once for practice, and set up what depends on it.

        Raises:
            ValueError: a deadline, and frames that come without any time; or the frame does not fit the stages.
        """
        info, settings = self._source.info, self._settings
        timed = not settings.all_frames and (info.live or job.frame.seconds is not None)
        try:
            if settings.deadline is not None and not timed:
                raise ValueError(
                    f"deadline: the frames of {info.name} come without any time, so none can be late; give their rate"
                )
            costs = self._stages.prepare(job.frame.photo, measured=settings.deadline is not None)
        except BaseException as error:
            self._give_up(job.broken(error))
            raise
        if timed:
            self._decoded.replace = _overtaken
        if settings.deadline is not None and costs is not None:
            self._controller = DeadlineController(settings.deadline, costs)
        return _Pace(timed and not info.live)

    def _sleep_until(self, moment: float) -> None:
        while not self.stopped and (left := moment - time.perf_counter()) > 0:
            time.sleep(min(left, _POLL))

    def _run(
        self,
        items: Channel[_Item],
        results: Channel[_Item],
        work: Callable[[_Job], _Item],
        *,
        fresh: bool = False,
    ) -> None:
        """Do a stage's work on one item after the other; what is skipped passes by.

        Args:
            items: from the stage before.
            results: to the next stage.
            work: done to a frame.
            fresh: begin nothing while a result waits: it would grow old, where a newer item might come.
        """
        try:
            while True:
                if fresh:
                    results.wait_until_empty()
                item = items.get()
                if isinstance(job := item, _Job):
                    try:
                        item = work(job)
                    except BaseException as error:
                        self._errors.append(error)
                        self._give_up(job.broken(error))
                        self._cancel()
                        break
                try:
                    results.put(item)
                except Closed:
                    self._give_up(item)
                    break
        except Closed:
            pass
        finally:
            results.finish()

    def _embed(self, job: _Job) -> _Item:
        if self.stopped:
            return job.skipped(STOPPED)
        if self._controller is not None and not self._controller.admit(time.perf_counter() - job.arrived):
            return job.skipped(LATE)
        with _measured(job, "network"):
            job.product = self._stages.embed(job.frame.photo)
        if self._controller is not None:
            self._controller.observe_network(job.stages["network"])
        return job

    def _walk(self, job: _Job) -> _Item:
        level: int | None = 0
        if self._controller is not None:
            level = self._controller.choose(time.perf_counter() - job.arrived)
        if level is None:
            return job.skipped(LATE)
        job.level = level
        with _measured(job, "walk"):
            job.product = self._stages.walk(job.product, level)
        if self._controller is not None:
            self._controller.observe_walk(level, job.stages["walk"])
        return job

    def _score(self, job: _Job) -> _Item:
        with _measured(job, "score"):
            score, segmentation = self._stages.score(job.product)
        latency = time.perf_counter() - job.arrived
        if self._controller is not None:
            self._controller.observe_score(job.stages["score"])
        job.product = None
        frame, degradations = job.frame, self._stages.degradations[job.level]
        job.result = StreamResult(
            frame.index, frame.seconds, frame.photo, score, segmentation, latency, job.stages, degradations, frame.marks
        )
        return job


def _overtaken(item: _Item) -> _Item | None:
    return item.skipped(OVERTAKEN) if isinstance(item, _Job) else None


def _outcome(item: _Item) -> Outcome:
    if isinstance(item, SkippedFrame):
        return item
    return item.skipped(STOPPED) if item.result is None else item.result


@contextmanager
def _measured(job: _Job, stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    job.stages[stage] = time.perf_counter() - begin
