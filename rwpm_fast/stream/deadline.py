"""Choose how much of a walk a frame can have if its score is to be there by a deadline.

The costs of the stages are moving estimates. Nothing here reads a clock: durations come in, decisions go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

# A frame that would miss the deadline by more than this factor, even without a walk, is dropped before the work.
GRACE = 1.1
_LEARNING = 0.3  # weight of a measurement in the estimate of what was measured
_SHARED = 0.25  # and in those of the other levels: a busy machine slows all of them down
_LARGEST = 3.0  # one measurement counts as no more than this many times the estimate
_DEVIATIONS = 2.0  # above the estimate: what is counted on
_STEADY = 0.9  # a milder level must fit into this share of the time that is left
_PATIENCE = 30.0  # measurements after which the estimate of the next milder level is halved, so that it is tried
_MAX_PATIENCE = 4000.0
_FORGET = 0.9  # factor of the estimates at each frame for which they leave no way: something must be tried again
MOST_DROPS = 9  # after so many in a row a frame is scored without a walk, late or not: a stream never stands still


class Estimate:
    """Moving mean of a duration, and of its relative deviation.

    Args:
        seconds: the first guess, > 0.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = max(seconds, 1e-6)
        self._deviation = 0.05

    @property
    def upper(self) -> float:
        """Seconds that are exceeded rarely."""
        return self.seconds * (1 + _DEVIATIONS * self._deviation)

    def update(self, seconds: float) -> float:
        """Learn from a measurement; returns its ratio to the estimate before."""
        ratio = min(max(seconds / self.seconds, 1 / _LARGEST), _LARGEST)
        self._deviation += 0.1 * (abs(ratio - 1) - self._deviation)
        self.seconds *= ratio**_LEARNING
        return ratio


@dataclass(frozen=True)
class Costs:
    """Seconds of the stages, measured once before the first frame.

    Attributes:
        network: of the network.
        walks: of the walk at each level of degradation, the full walk first.
        score: of up-sampling, segmentation and score.
    """

    network: float
    walks: Sequence[float]
    score: float


class DeadlineController:
    """Decides, for each frame, whether to begin and how far to degrade its walk.

    A level is chosen by what is left of the deadline when the frame's walk begins. Under pressure any number of levels
    is given up at once; in the other direction one at a time. A level that is not used is not measured, so the
    estimate of the next milder one falls slowly until it is tried; after each try that fails the fall is half as fast.

    Each stage may run in a thread of its own.

    Args:
        deadline: seconds from when a frame is there to when its score is.
        costs: of the stages; see :class:`Costs`.

    Example:
        >>> controller = DeadlineController(0.1, Costs(network=0.03, walks=[0.1, 0.05, 0.001], score=0.01))
        >>> controller.admit(waited=0.0), controller.choose(elapsed=0.03)
        (True, 1)
    """

    def __init__(self, deadline: float, costs: Costs) -> None:
        self.deadline = deadline
        self._network = Estimate(costs.network)
        self._walks = [Estimate(seconds) for seconds in costs.walks]
        self._score = Estimate(costs.score)
        self._level = 0
        self._drops = 0  # in a row
        self._tried_within: float | None = None  # seconds left for a level that is milder than the last one
        self._patience = [_PATIENCE] * len(self._walks)
        self._lock = Lock()

    def admit(self, waited: float) -> bool:
        """Whether a frame that has waited for its turn can still keep the deadline, at least without a walk."""
        with self._lock:
            if self._in_time(waited, self._network, self._walks[-1], self._score) or self._drops >= MOST_DROPS:
                return True
            self._drops += 1
            return False

    def choose(self, elapsed: float) -> int | None:
        """Return the mildest level whose walk and score fit into what is left of the deadline.

        Args:
            elapsed: seconds since the frame was there.

        Returns:
            Number of the level, 0 for the full walk; None if the frame is late even without a walk.
        """
        with self._lock:
            left = self.deadline - elapsed - self._score.upper
            last, level = self._level, max(self._level - 1, 0)
            while level < len(self._walks) - 1:
                if self._walks[level].upper <= (left if level >= last else _STEADY * left):
                    break
                level += 1
            self._level = level
            self._tried_within = left if level < last else None
            without = level == len(self._walks) - 1
            if without and not self._in_time(elapsed, self._walks[-1], self._score) and self._drops < MOST_DROPS:
                self._drops += 1
                return None
            self._drops = 0
            return level

    def observe_network(self, seconds: float) -> None:
        """Learn what the network took."""
        with self._lock:
            self._network.update(seconds)

    def observe_walk(self, level: int, seconds: float) -> None:
        """Learn what the walk took at the level that was chosen last."""
        with self._lock:
            ratio = self._walks[level].update(seconds)
            for other, estimate in enumerate(self._walks):
                if other != level:
                    estimate.seconds *= ratio**_SHARED
            if self._tried_within is not None:
                if seconds > self._tried_within:
                    self._walks[level].seconds = seconds
                    self._patience[level] = min(2 * self._patience[level], _MAX_PATIENCE)
                else:
                    self._patience[level] = _PATIENCE
            if level > 0:
                self._walks[level - 1].seconds *= 0.5 ** (1 / self._patience[level - 1])

    def observe_score(self, seconds: float) -> None:
        """Learn what up-sampling, segmentation and score took."""
        with self._lock:
            self._score.update(seconds)

    def _in_time(self, elapsed: float, *stages: Estimate) -> bool:
        """Whether stages can end in time.

        Where they could not even for a frame that has not waited, the estimates fall, so that a frame is tried again.
        """
        latest, need = GRACE * self.deadline, sum(stage.seconds for stage in stages)
        if need > latest:
            for stage in stages:
                stage.seconds *= _FORGET
        return elapsed + need <= latest
