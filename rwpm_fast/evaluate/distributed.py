"""Photos shared by several processes, on one machine or many, and their results put together again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessExitedException, start_processes

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that share the photos; they talk by gloo, all calls in the same order.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """This is the process that prints and writes."""
        return self.rank == 0

    def share(self, items: Iterable[T]) -> list[T]:
        """This process's items of the list that all have, every ``count``-th."""
        return list(items)[self.rank :: self.count]

    def collect(self, own: list[T]) -> list[T]:
        """The list of all, in its order, of what every process made of each item of its share."""
        if self.count == 1:
            return own
        shares: list[list[T]] = [[]] * self.count
        with _talking():
            dist.all_gather_object(shares, own)
        return [shares[i % self.count][i // self.count] for i in range(sum(map(len, shares)))]

    def pool(self, metrics: T) -> T | None:
        """Metrics of all processes merged in the first, by their ``merge``; None in the others."""
        with _talking():
            if not self.first:
                dist.send_object_list([metrics], 0)
                return None
            for other in range(1, self.count):  # one by one, since they may hold every pixel
                received: list[Any] = [None]
                dist.recv_object_list(received, other)
                metrics.merge(received.pop())
        return metrics

    def tell(self, value: T) -> T:
        """The first process's value, in all."""
        if self.count == 1:
            return value
        values = [value]
        with _talking():
            dist.broadcast_object_list(values)
        return values[0]


@contextmanager
def _talking() -> Iterator[None]:
    """What another process did to the talk is an error of the surroundings, not of this one."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError("another process gave up or went away, and has told why") from error


ALONE = Processes()


def started() -> bool:
    """``torchrun`` or :func:`launch` started this process with others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def of_torchrun() -> Iterator[Processes]:
    """The processes that ``torchrun`` or :func:`launch` started, or this one alone.

    Raises:
        ConnectionError: another process went away.
    """
    if not started():
        yield ALONE
        return
    with _talking():
        dist.init_process_group(
            "gloo",
            init_method=os.environ.get(_MEETING, "env://"),
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            timeout=timedelta(days=7),  # one may have hours to go where the others find all in the cache
        )
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
        with _talking():
            dist.barrier()  # who leaves early with a status takes the others down
    finally:
        dist.destroy_process_group()


def launch(count: int, run: Callable[..., int], *arguments: Any) -> int:
    """Run a function in so many processes of this machine, which find each other by :func:`of_torchrun`.

    Args:
        count: 2 or more.
        run: a module's function, which returns an exit status: 0 or 1 at its end, another where it gave up.
        arguments: its arguments, the same in every process.

    Returns:
        The largest status of all; or that of the first process that gave up, and the rest were stopped.

    Raises:
        ChildProcessError: a process was killed, and the rest were stopped.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Daemons end with this process, wherever an interruption hits it.
        context = start_processes(
            _run, (count, folder, run, arguments), count, join=False, daemon=True, start_method="spawn"
        )
        try:
            while not context.join():
                pass
        except ProcessExitedException as error:
            if error.exit_code < 0:
                killed = f"process {error.error_index} of {count} was killed by {error.signal_name}"
                raise ChildProcessError(f"{killed}; was it out of memory?") from error
            return error.exit_code
        finally:
            for process in context.processes:
                process.terminate()
                process.join()
        return max(int(status.read_text()) for status in Path(folder).glob("status-*"))


_MEETING = "RWPM_MEETING"


def _run(rank: int, count: int, folder: str, run: Callable[..., int], arguments: tuple) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, _MEETING: f"file://{folder}/meeting"}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    status = run(*arguments)
    if status > 1:
        raise SystemExit(status)  # the others wait for this one in vain, and are stopped
    Path(folder, f"status-{rank}").write_text(str(status))
