"""Several processes that share the images of an evaluation, on one machine or many, and put their results together."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessExitedException, start_processes

T = TypeVar("T")


class Mergeable(Protocol):
    """An accumulator that can take in another one of its kind."""

    def merge(self, other: Any) -> None: ...


Accumulator = TypeVar("Accumulator", bound=Mergeable)


@dataclass(frozen=True)
class Processes:
    """This process in a group of processes. Collective operations use gloo; all processes call them in the same order.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def shard(self, items: Iterable[T]) -> list[T]:
        """Return this process's share of a list that all processes have: every ``count``-th item."""
        return list(items)[self.rank :: self.count]

    def all_gather(self, shard: list[T]) -> list[T]:
        """Return the results of all processes in the order of the list.

        Args:
            shard: one result for each item of this process's shard.
        """
        if self.count == 1:
            return shard
        shards: list[list[T]] = [[]] * self.count
        with _collective():
            dist.all_gather_object(shards, shard)
        return [shards[i % self.count][i // self.count] for i in range(sum(map(len, shards)))]

    def reduce(self, metrics: Accumulator) -> Accumulator | None:
        """Merge the metrics of all processes, by their method ``merge``, in the first process.

        Args:
            metrics: accumulator of this process.

        Returns:
            The merged accumulator in the first process, None in the others.
        """
        with _collective():
            if not self.first:
                dist.send_object_list([metrics], 0)
                return None
            for other in range(1, self.count):  # one by one, since each may hold the scores of all its pixels
                received: list[Any] = [None]
                dist.recv_object_list(received, other)
                metrics.merge(received.pop())
        return metrics

    def broadcast(self, value: T | None) -> T:
        """Return the first process's value in all processes.

        Args:
            value: the value in the first process, and None in the others.
        """
        values = [value]
        if self.count > 1:
            with _collective():
                dist.broadcast_object_list(values)
        return cast(T, values[0])


@contextmanager
def _collective() -> Iterator[None]:
    """Turn a collective operation that failed because of another process into ConnectionError."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError("another process gave up or went away; its own message says why") from error


SINGLE_PROCESS = Processes()


def started() -> bool:
    """Return whether ``torchrun`` or :func:`launch` started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def from_environment() -> Iterator[Processes]:
    """Join the group of processes that ``torchrun`` or :func:`launch` started; a single process without them.

    Raises:
        ConnectionError: another process went away.
    """
    if not started():
        yield SINGLE_PROCESS
        return
    with _collective():
        dist.init_process_group(
            "gloo",
            init_method=os.environ.get(_RENDEZVOUS, "env://"),
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            timeout=timedelta(days=7),  # one process may compute for hours while others find all in the cache
        )
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
        with _collective():
            dist.barrier()  # a process that leaves early with a nonzero status would take the others down
    finally:
        dist.destroy_process_group()


def launch(count: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in several processes of this machine, which find each other by :func:`from_environment`.

    Args:
        count: number of processes, 2 or more.
        function: picklable, such as a function of a module.
        arguments: its arguments, the same in every process; picklable.

    Returns:
        The value of the first process.

    Raises:
        Exception: what the call raised in the first process that failed; the others were stopped.
        ChildProcessError: a process was killed or exited; the others were stopped.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Daemons end with this process, wherever an interruption hits it.
        context = start_processes(
            _call, (count, Path(folder), function, arguments), count, join=False, daemon=True, start_method="spawn"
        )
        try:
            while not context.join():
                pass
        except ProcessExitedException as error:
            _raise_cause(error, count, Path(folder))
        finally:
            for process in context.processes:
                process.terminate()
                process.join()
        return pickle.loads(Path(folder, "value").read_bytes())


def _raise_cause(exited: ProcessExitedException, count: int, folder: Path) -> None:
    process = f"process {exited.error_index} of {count}"
    if exited.exit_code < 0:
        killed = f"{process} was killed by {exited.signal_name}"
        raise ChildProcessError(f"{killed}; was it out of memory?") from exited
    file = folder / f"error-{exited.error_index}"
    if not file.exists():
        raise ChildProcessError(f"{process} exited with status {exited.exit_code}") from exited
    error, trace = pickle.loads(file.read_bytes())
    raise error from RuntimeError(f"in {process}:\n{trace}")


_RENDEZVOUS = "RWPM_RENDEZVOUS"
_GRACE_SECONDS = 10.0


def _call(rank: int, count: int, folder: Path, function: Callable[..., Any], arguments: tuple) -> None:
    """Run in a process that :func:`launch` started."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, _RENDEZVOUS: f"file://{folder}/rendezvous"}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        value = function(*arguments)
    except Exception as error:
        Path(folder, f"error-{rank}").write_bytes(_pickled(error))
        if isinstance(error, ConnectionError):
            time.sleep(_GRACE_SECONDS)  # the process that failed before is to be the first that exits
        raise SystemExit(1) from error
    if rank == 0:
        Path(folder, "value").write_bytes(pickle.dumps(value))


def _pickled(error: Exception) -> bytes:
    """Pickle an error with its traceback; an error that cannot be pickled becomes a RuntimeError of the same text."""
    trace = "".join(traceback.format_exception(error))
    try:
        content = pickle.dumps((error, trace))
        pickle.loads(content)
    except Exception:
        content = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return content
