"""Time one network over the formats that it runs in: eager, compiled, packages and ONNX, each in a process of its own.

The processes take turns, so that what slows the machine down for a while slows all of them. Each is checked against
eager torch before it gets a time.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ..deploy.runners import EagerRunner, Runner
from ..deploy.verify import relative_error
from ..io.markdown import markdown_table
from .memory import resident


@dataclass(frozen=True)
class Format:
    """A way to run the network.

    Attributes:
        name: for the table.
        open: loads or makes it, in the process that runs it.
        tolerance: largest error against eager, relative to the largest score.
        missing: why it cannot run, known before it is tried; None if it may.
        walks: whether it calls the operator of the walk, so that its walk takes what eager's takes.
    """

    name: str
    open: Callable[[], Runner]
    tolerance: float = 1e-5
    missing: str | None = None
    walks: bool = True


@dataclass(frozen=True)
class Program:
    """The C++ program on a package, which is a process of its own anyway.

    Attributes:
        name: for the table.
        program: ``rwpm-score``.
        package: the ``.pt2``.
        library: ``librwpm_ops.so``.
        tolerance: see :class:`Format`.
        missing: see :class:`Format`.
        walks: see :class:`Format`.
    """

    name: str
    program: Path
    package: Path
    library: Path
    tolerance: float = 1e-5
    missing: str | None = None
    walks: bool = True


@dataclass
class FormatResult:
    """What a format reached, seconds and bytes; None where it did not run.

    Attributes:
        name: of the format.
        load: time to load or make it.
        first: time of the first call, with what it compiles and allocates.
        seconds: of each further call.
        peak_bytes: most that its process held in memory.
        error: largest difference of the score from eager's, relative to the largest of eager's.
        walk: seconds of the walk within a call, as eager tells them apart; None where it is another walk.
        reason: why there are no times.
    """

    name: str
    load: float | None = None
    first: float | None = None
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    error: float | None = None
    walk: float | None = None
    reason: str | None = None

    def median(self) -> float | None:
        """Median of the calls after the first."""
        return float(np.median(self.seconds)) if self.seconds else None

    def p95(self) -> float | None:
        """Time that 95 % of the calls after the first keep."""
        return float(np.percentile(self.seconds, 95)) if self.seconds else None


class _Worker:
    """A process that has a format open and runs it when asked."""

    def __init__(self, format_: Format, photo: np.ndarray, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, format_.open, photo, threads), daemon=True)
        self._process.start()
        other.close()

    def ask(self, request: str) -> Any:
        """Return the answer to a request.

        Raises:
            ChildProcessError: the format failed, or its process went away.
        """
        try:
            self._pipe.send(request)
            kind, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join()
            raise ChildProcessError(f"its process ended with status {self._process.exitcode}") from error
        if kind == "failed":
            raise ChildProcessError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()


def _serve(pipe: Connection, open_runner: Callable[[], Runner], photo: np.ndarray, threads: int) -> None:
    torch.set_num_threads(threads)
    runner: Runner | None = None
    try:
        while True:
            request = pipe.recv()
            try:
                if request == "open":
                    begin = perf_counter()
                    runner = open_runner()
                    pipe.send(("done", perf_counter() - begin))
                elif request == "memory":
                    pipe.send(("done", resident("VmHWM")))
                elif request == "walk":
                    walk = runner.scorer(photo).walk_seconds if isinstance(runner, EagerRunner) else None
                    pipe.send(("done", walk))
                else:
                    assert runner is not None
                    begin = perf_counter()
                    score, _ = runner.run(photo)
                    seconds = perf_counter() - begin
                    pipe.send(("done", (seconds, score if request == "score" else None)))
            except Exception as error:
                pipe.send(("failed", str(error).strip().partition("\n")[0] or type(error).__name__))
    except EOFError:
        pass


def time_formats(
    formats: Sequence[Format | Program],
    photo: np.ndarray,
    *,
    rounds: int = 10,
    threads: int = 1,
    on_round: Callable[[int], None] = lambda done: None,
) -> list[FormatResult]:
    """Time formats on a photo.

    Args:
        formats: eager first: it is what the others are compared with.
        photo: [H, W, 3] uint8.
        rounds: calls of each after its first, in turn.
        threads: of each.
        on_round: called with the number of rounds that are done.

    Returns:
        A result a format, in their order.

    Raises:
        ValueError: fewer than one round, or eager itself fails.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected 1 or more, got {rounds}")
    results = [FormatResult(format_.name, reason=format_.missing) for format_ in formats]
    workers: dict[int, _Worker] = {}
    expected: np.ndarray | None = None
    try:
        for k, (format_, result) in enumerate(zip(formats, results, strict=True)):
            if result.reason is not None or isinstance(format_, Program):
                continue
            worker = workers[k] = _Worker(format_, photo, threads)
            with _told(result, workers, k):
                result.load = worker.ask("open")
                result.first, score = worker.ask("score")
                expected = score if expected is None else expected
                _check(result, score, expected, format_.tolerance)
        if expected is None:
            raise ValueError(f"{results[0].name}: {results[0].reason}")
        for done in range(rounds):
            for k, (format_, result) in enumerate(zip(formats, results, strict=True)):
                if isinstance(format_, Program) and result.reason is None:
                    _run_program(format_, result, photo, expected, threads)
                elif k in workers:
                    with _told(result, workers, k):
                        result.seconds.append(workers[k].ask("run")[0])
            on_round(done + 1)
        for k, worker in list(workers.items()):
            with _told(results[k], workers, k):
                results[k].peak_bytes = worker.ask("memory")
        if 0 not in workers:
            raise ValueError(f"{results[0].name}: {results[0].reason}")
        walk = workers[0].ask("walk")
        for format_, result in zip(formats, results, strict=True):
            result.walk = walk if format_.walks and result.reason is None else None
    finally:
        for worker in workers.values():
            worker.close()
    return results


@contextmanager
def _told(result: FormatResult, workers: dict[int, _Worker], number: int) -> Iterator[None]:
    """Note why a format failed, and end its process; the others go on."""
    try:
        yield
    except ChildProcessError as error:
        result.reason = str(error)
        result.seconds = []
        workers.pop(number).close()


def _check(result: FormatResult, score: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Compare a score with eager's.

    Raises:
        ChildProcessError: it has another shape, or differs by more than the tolerance.
    """
    if score.shape != expected.shape:
        raise ChildProcessError(f"score: expected shape {list(expected.shape)}, got {list(score.shape)}")
    result.error = relative_error(score, expected)
    if not result.error <= tolerance:
        raise ChildProcessError(f"differs from eager by {result.error:.1e} of its largest (allowed: {tolerance:.0e})")


def _run_program(program: Program, result: FormatResult, photo: np.ndarray, expected: np.ndarray, threads: int) -> None:
    """Run the C++ program once: a first call and another."""
    with tempfile.TemporaryDirectory() as folder:
        path, told = Path(folder, "photo.ppm"), Path(folder, "latencies.json")
        path.write_bytes(b"P6 %d %d 255\n" % (photo.shape[1], photo.shape[0]) + photo.tobytes())
        words = [program.program, program.package, path, "--out", folder, "--library", program.library]
        words += ["--no-overlay", "--repeat", "2", "--threads", str(threads), "--json", told]
        try:
            done = subprocess.run(list(map(str, words)), capture_output=True)
            if done.returncode:
                message = done.stderr.decode(errors="replace").strip().partition("\n")[0]
                raise ChildProcessError(message or f"it ended with status {done.returncode}")
            latencies = json.loads(told.read_text())
            _check(result, np.load(Path(folder, "photo.npy")), expected, program.tolerance)
        except (OSError, ValueError) as error:  # a ChildProcessError among them
            result.reason = str(error)
            result.seconds = []
            return
    if result.first is None:
        result.load, result.first = latencies["load_ms"] / 1e3, latencies["run"]["first_ms"] / 1e3
    result.seconds.append(latencies["run"]["median_ms"] / 1e3)
    if (peak := latencies.get("peak_bytes")) is not None:
        result.peak_bytes = max(result.peak_bytes or 0, peak)


HEADER = (
    "format",
    "median, ms",
    "p95, ms",
    "to eager",
    "first call, s",
    "load, s",
    "peak memory, MiB",
    "error",
    "walk",
)


def formats_table(results: Sequence[FormatResult]) -> str:
    """The results as Markdown, eager first."""
    eager = results[0].median()
    rows: list[list[str]] = []
    for result in results:
        median, p95 = result.median(), result.p95()
        if result.reason is not None or median is None or p95 is None:
            rows.append([result.name, result.reason or ""])
            continue
        assert result.first is not None and result.load is not None
        walk = "" if result.walk is None else f"{result.walk / median:.0%}"
        peak = "" if result.peak_bytes is None else f"{result.peak_bytes / 2**20:.0f}"
        ratio = "" if eager is None else f"{median / eager:.2f}"
        times = [f"{1e3 * median:.1f}", f"{1e3 * p95:.1f}", ratio, f"{result.first:.2f}", f"{result.load:.2f}"]
        rows.append([result.name, *times, peak, f"{result.error:.1e}", walk])
    return markdown_table(HEADER, rows)
