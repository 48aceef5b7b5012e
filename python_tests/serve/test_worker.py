"""Jobs run one after the other; those that nobody waits for do not begin."""

import asyncio
import threading

import pytest

from rwpm_fast.serve.limits import Refusal
from rwpm_fast.serve.worker import Gone, Worker


async def never():
    await asyncio.Event().wait()


async def soon():
    await asyncio.sleep(0.01)


def test_jobs_of_clients_that_left_do_not_begin():
    worker, begun, release, ran = Worker(waiting=3), threading.Event(), threading.Event(), []

    def hold():
        begun.set()
        release.wait(10)
        return "held"

    async def scenario():
        first = asyncio.ensure_future(worker.run(hold, never()))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        for _ in range(20):  # more than the line takes at a time
            with pytest.raises(Gone):
                await worker.run(lambda: ran.append("late"), soon())
        waiting = [asyncio.ensure_future(worker.run(lambda k=k: ran.append(k), never())) for k in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="busy"):
            await worker.run(lambda: None, never())
        release.set()
        assert await first == "held"
        await asyncio.gather(*waiting)

    asyncio.run(scenario())
    assert ran == [0, 1]
    worker.close()


def test_the_error_of_a_job_comes_back():
    worker = Worker(waiting=1)

    async def scenario():
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 / 0, never())
        assert await worker.run(lambda: 2, never()) == 2

    asyncio.run(scenario())
    worker.close()
