"""What a page takes of its visitors: sizes, numbers, rates and times; and the error that says no."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        upload_bytes: of a photo's file.
        uploads_bytes: of all uploads together that are in memory at a time.
        photo_pixels: of a photo, by its header, before anything is decoded.
        longest_side: pixels; a photo with a longer side is reduced before it is scored.
        steps: transitions of a walk.
        parts: n of the paper.
        walk_seconds: that a walk may be expected to take.
        waiting: jobs that wait for the thread that computes, the running one included.
        connections: open at a time.
        requests_a_second: of one client, on average; twice as many at once.
        photos_a_minute: of one client, on average; half as many at once.
        clients: whose rates are kept.
        head_seconds: to send the head of a request.
        upload_seconds: to send its body.
        answer_seconds: to take the answer, once it is ready.
        end_seconds: that the end of the server waits for answers.
        sessions: photos that are kept in memory; the one used longest ago goes first.
        graphs: that are kept of a photo, likewise.
    """

    upload_bytes: int = 32 * 2**20
    uploads_bytes: int = 256 * 2**20
    photo_pixels: int = 50_000_000
    longest_side: int = 2048
    steps: int = 200
    parts: int = 8
    walk_seconds: float = 60.0
    waiting: int = 32
    connections: int = 128
    requests_a_second: float = 100.0
    photos_a_minute: float = 60.0
    clients: int = 1024
    head_seconds: float = 10.0
    upload_seconds: float = 60.0
    answer_seconds: float = 60.0
    end_seconds: float = 2.0
    sessions: int = 8
    graphs: int = 2


class Refusal(Exception):
    """A request that is not served.

    Attributes:
        status: of HTTP.
        message: why, and the way out, for the visitor.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Rate:
    """Token buckets, one for each client: ``burst`` requests at once, ``per_second`` in the long run.

    Args:
        per_second: tokens that a client gets back a second.
        burst: tokens at most, and at the start.
        clients: that are remembered; the one seen longest ago is forgotten first.
        clock: seconds, rising.
    """

    def __init__(
        self, per_second: float, burst: float, clients: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._clients, self._clock = per_second, burst, clients, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted

    def take(self, client: str) -> float:
        """Take a token of a client; return 0, or the seconds to wait where there is none."""
        now = self._clock()
        tokens, counted = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted) * self._per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._per_second
        self._buckets[client] = (tokens if wait else tokens - 1, now)
        while len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        return wait
