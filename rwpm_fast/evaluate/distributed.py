"""Several processes that share the images of an evaluation, on one machine or many, and put their results together."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessExitedException, start_processes

from ..io.console import lasting_streams
from ..io.processes import together

T = TypeVar("T")


class Mergeable(Protocol):
    """An accumulator that can take in another one of its kind."""

    def merge(self, other: Any) -> None: ...


Accumulator = TypeVar("Accumulator", bound=Mergeable)


class _Pipes:
    """Objects between the processes of one machine, which :func:`launch` started: needs no network.

    Args:
        ends: process to this one's end of the pipe to it; all have one to the first.
    """

    def __init__(self, ends: Mapping[int, Connection]) -> None:
        self._ends = ends

    def send(self, value: object, to: int) -> None:
        self._ends[to].send(value)

    def receive(self, source: int) -> Any:
        return self._ends[source].recv()


class _Gloo:
    """Objects between the processes that ``torchrun`` started, on one machine or many."""

    def send(self, value: object, to: int) -> None:
        dist.send_object_list([value], to)

    def receive(self, source: int) -> Any:
        received: list[Any] = [None]
        dist.recv_object_list(received, source)
        return received.pop()


@dataclass(frozen=True)
class Processes:
    """This process in a group of processes. All processes call the collective operations in the same order.

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
        if not self.first:
            with _collective() as link:
                link.send(shard, 0)
            return self.broadcast(None)
        shards = [shard]
        for other in range(1, self.count):
            with _collective() as link:
                shards.append(link.receive(other))
        return self.broadcast([shards[i % self.count][i // self.count] for i in range(sum(map(len, shards)))])

    def reduce(self, metrics: Accumulator) -> Accumulator | None:
        """Merge the metrics of all processes, by their method ``merge``, in the first process.

        Args:
            metrics: accumulator of this process.

        Returns:
            The merged accumulator in the first process, None in the others.
        """
        if not self.first:
            with _collective() as link:
                link.send(metrics, 0)
            return None
        for other in range(1, self.count):  # one by one, since each may hold the scores of all its pixels
            with _collective() as link:
                received = link.receive(other)
            metrics.merge(received)
            del received
        return metrics

    def broadcast(self, value: T | None) -> T:
        """Return the first process's value in all processes.

        Args:
            value: the value in the first process, and None in the others.
        """
        if not self.first:
            with _collective() as link:
                return link.receive(0)
        for other in range(1, self.count):
            with _collective() as link:
                link.send(value, other)
        return cast(T, value)


_link: _Pipes | _Gloo = _Gloo()


@contextmanager
def _collective() -> Iterator[_Pipes | _Gloo]:
    """Give the link to the other processes."""
    with together():
        yield _link


SINGLE_PROCESS = Processes()


def started() -> bool:
    """Return whether ``torchrun`` or :func:`launch` started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def device_name(name: str) -> str:
    """Return the name of this process's torch device, where "cuda" stands for one GPU for each process of a machine."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if started() and name == "cuda" else name


def writes() -> bool:
    """Return whether this is the process that prints and writes, where there are several."""
    return not started() or int(os.environ["RANK"]) == 0


@contextmanager
def from_environment() -> Iterator[Processes]:
    """Join the group of processes that ``torchrun`` or :func:`launch` started; a single process without them.

    Raises:
        ConnectionError: another process went away, or the network of ``torchrun`` cannot be used.
    """
    if not started():
        yield SINGLE_PROCESS
        return
    processes = Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if isinstance(_link, _Gloo):
        try:
            dist.init_process_group(
                "gloo",
                timeout=timedelta(days=7),  # one process may compute for hours while others find all in the cache
            )
        except (RuntimeError, ValueError) as error:
            raise ConnectionError(f"cannot join the processes of torchrun: {error}") from error
    try:
        yield processes
        processes.all_gather([])  # a process that leaves early with a nonzero status would take the others down
    finally:
        if isinstance(_link, _Gloo):
            dist.destroy_process_group()


def launch(count: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in several processes of this machine, which find each other by :func:`from_environment`.

    They exchange data through pipes, so that no network is needed.

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
        pipes = {other: Pipe() for other in range(1, count)}  # ends of the first process, and of the other
        # Daemons end with this process, wherever an interruption hits it.
        context = start_processes(
            _call,
            (count, Path(folder), pipes, function, arguments),
            count,
            join=False,
            daemon=True,
            start_method="spawn",
        )
        try:
            for end in chain.from_iterable(pipes.values()):
                end.close()  # or a process would not notice that the other one went away
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


_GRACE_SECONDS = 10.0


def _call(
    rank: int,
    count: int,
    folder: Path,
    pipes: dict[int, tuple[Connection, Connection]],
    function: Callable[..., Any],
    arguments: tuple,
) -> None:
    """Run in a process that :func:`launch` started."""
    global _link
    ends = {other: first for other, (first, _) in pipes.items()} if rank == 0 else {0: pipes[rank][1]}
    for end in chain.from_iterable(pipes.values()):
        if end not in ends.values():
            end.close()
    _link = _Pipes(ends)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        with lasting_streams():
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
