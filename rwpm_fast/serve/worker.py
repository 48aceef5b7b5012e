"""The one thread that computes, and the bounded line in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from .limits import Refusal

Result = TypeVar("Result")


class Gone(Exception):
    """Nobody waits for the result any more."""


class Worker:
    """Runs jobs one after the other in a thread of its own, so that the server answers meanwhile.

    Args:
        waiting: jobs at most, the running one included.
    """

    def __init__(self, waiting: int) -> None:
        self._waiting = waiting
        self._jobs: set[Future[Any]] = set()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rwpm-serve")

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Put a job into the line.

        Args:
            job: takes no arguments.

        Raises:
            Refusal: the line is full.
        """
        if len(self._jobs) >= self._waiting:
            raise Refusal(503, "the server is busy; wait a second and try again")
        future = self._pool.submit(job)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        return future

    async def run(self, job: Callable[[], Result], gone: Coroutine[Any, Any, None]) -> Result:
        """Run a job and return its result.

        Args:
            job: takes no arguments. It begins only if it is still waited for.
            gone: ends when nobody waits for the result any more.

        Raises:
            Gone: ``gone`` ended first.
            Refusal: the line is full.
        """
        try:
            future: asyncio.Future[Any] = asyncio.wrap_future(self.submit(job))
        except Refusal:
            gone.close()
            raise
        leaving: asyncio.Future[Any] = asyncio.ensure_future(gone)
        try:
            await asyncio.wait([future, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise Gone
            return future.result()
        finally:
            future.cancel()  # takes a job that has not begun out of the line
            leaving.cancel()

    def close(self) -> None:
        """Drop the jobs that wait, and end the thread after the running one."""
        self._pool.shutdown(wait=True, cancel_futures=True)
