"""Frames on their way through decoder, network, walk and score, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

from .channel import Channel, Closed
from .deadline import DeadlineController
from .frame import BrokenFrame, FrameSource
from .job import Item, Job, Pace, measured, outcome_of, overtaken
from .result import LATE, STOPPED, Outcome, SkippedFrame, StreamResult
from .settings import StreamSettings
from .stages import Stages

_POLL = 0.1  # seconds from look to look at what other threads or signal handlers ask for
_PATIENCE = 5.0  # seconds to wait for a source that does not let go


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
        self._decoded: Channel[Item] = Channel(settings.queue)
        self._embedded: Channel[Item] = Channel(1)
        self._walked: Channel[Item] = Channel(1)
        self._scored: Channel[Item] = Channel(2)
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
                yield outcome_of(item)
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
        decoder, *others = self._threads
        for thread in others:
            thread.join()
        decoder.join(_PATIENCE)
        self.left.sort(key=lambda outcome: outcome.index)

    def _cancel(self) -> None:
        for channel in (self._decoded, self._embedded, self._walked, self._scored):
            for item in channel.cancel():
                self._give_up(item)

    def _give_up(self, item: Item) -> None:
        self.left.append(outcome_of(item))

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
                item: Item
                if isinstance(frame, BrokenFrame):
                    item = SkippedFrame(frame.index, frame.seconds, "broken", frame.reason)
                else:
                    item = job = Job(frame, 0.0, {"decode": time.perf_counter() - begin})
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

    def _begin(self, job: Job) -> Pace:
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
            self._decoded.replace = overtaken
        if settings.deadline is not None and costs is not None:
            self._controller = DeadlineController(settings.deadline, costs)
        return Pace(timed and not info.live)

    def _sleep_until(self, moment: float) -> None:
        while not self.stopped and (left := moment - time.perf_counter()) > 0:
            time.sleep(min(left, _POLL))

    def _run(
        self,
        items: Channel[Item],
        results: Channel[Item],
        work: Callable[[Job], Item],
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
                if isinstance(job := item, Job):
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

    def _embed(self, job: Job) -> Item:
        if self.stopped:
            return job.skipped(STOPPED)
        if self._controller is not None and not self._controller.admit(time.perf_counter() - job.arrived):
            return job.skipped(LATE)
        with measured(job, "network"):
            job.product = self._stages.embed(job.frame.photo)
        if self._controller is not None:
            self._controller.observe_network(job.stages["network"])
        return job

    def _walk(self, job: Job) -> Item:
        level: int | None = 0
        if self._controller is not None:
            level = self._controller.choose(time.perf_counter() - job.arrived)
        if level is None:
            return job.skipped(LATE)
        job.level = level
        with measured(job, "walk"):
            job.product = self._stages.walk(job.product, level)
        if self._controller is not None:
            self._controller.observe_walk(level, job.stages["walk"])
        return job

    def _score(self, job: Job) -> Item:
        with measured(job, "score"):
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
