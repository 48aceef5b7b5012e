"""Settings of a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..checks import check_integers, check_numbers


@dataclass(frozen=True, eq=False)
class StreamSettings:
    """How a stream treats frames that come faster than they can be scored.

    Attributes:
        deadline: seconds from when a frame is there to when its score is; None for no deadline: every frame that is
            not dropped has the full walk.
        all_frames: score every frame, however long it takes: the source waits.
        queue: frames that may wait for the network; where another one comes the oldest is dropped, or with
            ``all_frames`` the source waits.
        loosest_tolerance: bound of the first degradation, the walk's ``tolerance``: no value is off by more than
            ``2 * steps * loosest_tolerance * max|v|``; see :func:`rwpm_fast.walk`.
        fewest_steps: bound of the second degradation, the walk's number of steps.
        ego_mask: [H, W] bool, True for pixels of the vehicle that carries the camera; left out of the walk when the
            sky is. None if unknown.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a setting is out of its range, or a deadline together with ``all_frames``.
    """

    deadline: float | None = None
    all_frames: bool = False
    queue: int = 1
    loosest_tolerance: float = 1e-3
    fewest_steps: int = 5
    ego_mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_numbers(loosest_tolerance=self.loosest_tolerance)
        check_integers(queue=self.queue, fewest_steps=self.fewest_steps)
        if self.deadline is not None:
            check_numbers(deadline=self.deadline)
            if not 0 < self.deadline < math.inf:
                raise ValueError(f"deadline: expected seconds above 0, got {self.deadline}")
            if self.all_frames:
                raise ValueError("deadline: expected none with all_frames, since late frames are dropped; give one")
        if self.queue < 1:
            raise ValueError(f"queue: expected 1 frame or more, got {self.queue}")
        if not 0 <= self.loosest_tolerance < 1:
            raise ValueError(f"loosest_tolerance: expected a number in [0, 1), got {self.loosest_tolerance}")
        if self.fewest_steps < 1:
            raise ValueError(f"fewest_steps: expected 1 or more, got {self.fewest_steps}")
        if not isinstance(self.ego_mask, (np.ndarray, type(None))):
            raise TypeError(f"ego_mask: expected an array or None, got {type(self.ego_mask).__name__}")
        if self.ego_mask is not None and (self.ego_mask.dtype != bool or self.ego_mask.ndim != 2):
            found = f"{list(self.ego_mask.shape)} {self.ego_mask.dtype}"
            raise ValueError(f"ego_mask: expected [H, W] bool, got {found}")
