"""Wall-clock time of work on a device."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Measure seconds from lap to lap, waiting for the work that is queued on a device.

    Args:
        device: to wait for; the CPU has no queue.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begin = self._now()

    def lap(self) -> float:
        """Return the seconds since the last lap, or since the start."""
        begin, self._begin = self._begin, self._now()
        return self._begin - begin

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
