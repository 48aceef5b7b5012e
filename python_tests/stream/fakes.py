"""Sources and stages of known behavior."""

from __future__ import annotations

import threading
import time

import numpy as np

from rwpm_fast.stream import BrokenFrame, SourceInfo, VideoFrame
from rwpm_fast.stream.deadline import Costs


class FakeSource:
    """Frames [4, 6, 3] whose pixels are their index.

    Args:
        count: number of frames.
        rate: frames per second; None for frames without a time.
        broken: indices of frames that are broken.
        error: (index, what to raise there).
        hang_at: index of a frame that does not come until the source is closed.
        live: frames come at their own time.
    """

    def __init__(self, count, *, rate=None, broken=(), error=None, hang_at=None, live=False):
        self.info = SourceInfo("fake", "frames", "fake", rate=rate, live=live)
        self._count, self._broken, self._error, self._hang_at = count, set(broken), error, hang_at
        self.given = 0
        self.closed = threading.Event()

    def __iter__(self):
        for index in range(self._count):
            if self._error is not None and index == self._error[0]:
                raise self._error[1]
            if index == self._hang_at:
                self.closed.wait(20)
                return
            seconds = None if self.info.rate is None else index / self.info.rate
            self.given += 1
            if index in self._broken:
                yield BrokenFrame(index, seconds, "damaged")
            else:
                yield VideoFrame(index, seconds, np.full((4, 6, 3), index % 256, np.uint8))

    def close(self):
        self.closed.set()


class FakeStages:
    """Stages that keep count.

    Args:
        gates: stage to an event that its work waits for.
        errors: (stage, index % 256) to what to raise there.
        slow: index % 256 to the seconds that its walk sleeps.
        levels: number of levels of degradation.
        costs: what :meth:`prepare` says.
    """

    def __init__(self, *, gates=None, errors=None, slow=None, levels=1, costs=None):
        self.degradations = [tuple(["coarser"] * (level > 0)) for level in range(levels)]
        self._gates, self._errors, self._slow = gates or {}, errors or {}, slow or {}
        self._costs = costs
        self.threads = {}
        self.levels = []

    def prepare(self, photo, *, measured):
        return (self._costs or Costs(1e-4, [1e-4] * len(self.degradations), 1e-4)) if measured else None

    def _pass(self, stage, index):
        self.threads.setdefault(stage, set()).add(threading.current_thread().name)
        if stage in self._gates:
            assert self._gates[stage].wait(20)
        if (stage, index) in self._errors:
            raise self._errors[stage, index]

    def embed(self, photo):
        self._pass("network", int(photo[0, 0, 0]))
        return photo

    def walk(self, embedded, level):
        index = int(embedded[0, 0, 0])
        self._pass("walk", index)
        time.sleep(self._slow.get(index, 0))
        self.levels.append(level)
        return embedded

    def score(self, predicted):
        self._pass("score", int(predicted[0, 0, 0]))
        return predicted[..., 0].astype(np.float32), predicted[..., 0]
