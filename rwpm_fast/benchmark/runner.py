"""Contenders on one case: each checked against float64, timed in turn within one run, or left out with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from ..memory import available_memory
from . import machine
from .cases import Case, Problem
from .contender import Contender, Run, Unavailable
from .device import CpuDevice, Device
from .entries import UNITS
from .record import Comparison, Result, summary
from .reference import Reference, reference_of

E = TypeVar("E")
B = TypeVar("B")


@dataclass(frozen=True)
class Limits:
    """What a contender may take.

    Args:
        seconds: of one run, estimated beforehand from a small run, by the operations; a run that took longer is not
            repeated.
        memory: bytes, of a run and of a float64 reference.
        rounds: how often every contender runs, in turn.
        measure_memory: run each once more in a process of its own to see its peak.
    """

    seconds: float = 60.0
    memory: float = field(default_factory=lambda: available_memory() / 2)
    rounds: int = 3
    measure_memory: bool = True

    def __post_init__(self) -> None:
        for name in ("seconds", "memory"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.rounds < 1:
            raise ValueError(f"rounds: expected 1 or more, got {self.rounds}")

    def to_json(self) -> dict[str, Any]:
        """For a record, which keeps the rounds apart from the limits."""
        return {"limits": {"seconds": self.seconds, "memory": self.memory}, "rounds": self.rounds}


def take_turns(
    rounds: int, entries: Iterable[E], run_once: Callable[[E, str], object], *, before: Callable[[], B]
) -> list[B]:
    """Run all entries in every round, one after the other, so that each meets the machine as the others do.

    Args:
        rounds: how many.
        entries: what is run.
        run_once: gets an entry and the round in words; it skips what is not to be run again.
        before: measures the machine at the beginning of a round, as ``machine.load``.

    Returns:
        What ``before`` gave, by round.
    """
    entries, measured = list(entries), []
    for number in range(rounds):
        measured.append(before())
        for entry in entries:
            run_once(entry, f"round {number + 1} of {rounds}")
    return measured


def failure(error: Exception) -> str:
    """An exception on one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@dataclass
class _Entry:
    """A contender on its way through the rounds, and its row so far."""

    contender: Contender
    result: Result
    run: Run | None = None  # None: left out, or not to be run again
    prepared: Run | None = None
    times: list[float] = field(default_factory=list)
    # Of one transition: what the others take more is the steps' alone.
    single: Run | None = None
    single_times: list[float] = field(default_factory=list)

    def set(self, **facts: Any) -> None:
        """Write into its row."""
        self.result = replace(self.result, **facts)


def compare(
    case: Case,
    contenders: list[Contender],
    limits: Limits,
    *,
    device: Device | None = None,
    unit: str = UNITS["walk"],
    cache: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Run contenders on a case, in turn.

    Args:
        case: what is walked.
        contenders: what runs.
        limits: what one may take.
        device: where it runs, the case's; None for the processor.
        unit: key of the contender whose time is one.
        cache: folder for float64 references, which may take minutes.
        note: gets what is done, a line at a time.
    """
    note(case.title())
    device = device or CpuDevice()
    problem = case.problem()
    entries = [
        _Entry(c, Result(contender=c.key, label=c.label, operator=c.operator, expected=c.expected_error))
        for c in contenders
    ]
    for entry in entries:
        _prepare(entry, problem, limits, note, device)

    references: dict[str, Reference] = {}
    for operator in dict.fromkeys(e.contender.operator for e in entries if e.run):
        references[operator] = reference_of(
            problem, operator, memory=limits.memory, method=device.method, cache=cache, note=note
        )

    def run_once(entry: _Entry, turn: str) -> None:
        if entry.run is not None:
            note(f"{turn}: {entry.contender.label}")
            _run_once(entry, entry.run, references[entry.contender.operator], case, limits, device)

    def rates() -> tuple[float, float, float]:
        return machine.load(), device.peak_flops(), device.copy_bytes()

    load, peaks, copies = zip(*take_turns(limits.rounds, entries, run_once, before=rates), strict=True)
    peak_flops, copy_bytes = median(peaks), median(copies)
    one = next((median(e.times) for e in entries if e.contender.key == unit and e.result.matched), None)
    for entry in [e for e in entries if e.result.accepted]:
        entry.set(**_speed(entry, case, peak_flops, copy_bytes, one, device))
        if limits.measure_memory and entry.prepared is not None:
            note(f"memory: {entry.contender.label}")
            entry.set(peak_bytes=device.peak_memory(case, entry.contender, entry.prepared))
    return Comparison(case, load, peak_flops, copy_bytes, tuple(e.result for e in entries))


def _prepare(entry: _Entry, problem: Problem, limits: Limits, note: Callable[[str], None], device: Device) -> None:
    """Warm a contender up and make it ready to run; or say in its row why not."""
    contender, case = entry.contender, problem.case
    memory = contender.memory(case)
    if memory > limits.memory:
        entry.set(skipped=f"would take about {memory / 2**30:.1f} GiB, the limit is {limits.memory / 2**30:.1f} GiB")
        return
    note(f"warm up: {contender.label}")
    small = case.small().problem()
    try:
        run = contender.prepare(small)
        run()
        seconds, _ = device.timed(run)
        estimate = seconds * contender.work(case) / max(1, contender.work(small.case))
        if estimate > limits.seconds:
            entry.set(
                skipped=f"would take about {estimate:.0f} s, the limit is {limits.seconds:g} s "
                f"(by operations, from a run of {small.case.pixels} pixels and {small.case.steps} step)"
            )
            return
        if contender.predict is not None:
            entry.set(predicted=contender.predict(case))
        if contender.facts is not None:
            facts = contender.facts(problem)
            entry.set(**facts._asdict())
            if facts.pairs is not None and case.steps > 1:
                entry.single = contender.prepare(replace(problem, case=case.with_steps(1)))
        entry.run = entry.prepared = contender.prepare(problem)
    except Unavailable as reason:
        entry.set(skipped=str(reason))
    except Exception as error:  # whatever a library raises, the others still run
        entry.set(failed=failure(error))


def _run_once(entry: _Entry, run: Run, reference: Reference, case: Case, limits: Limits, device: Device) -> None:
    """One timed run of a contender, and its error."""
    contender, row = entry.contender, entry.result
    try:
        seconds, result = device.timed(run)
        if entry.single is not None:
            entry.single_times.append(device.timed(entry.single)[0])
    except Exception as error:  # as above
        entry.set(failed=failure(error), matched=False)
        entry.run = None
        return
    entry.times.append(seconds)
    worst = max(row.error or 0.0, reference.error(result), key=lambda e: (e != e, e))  # NaN is the worst
    bound = contender.error_bound(case)
    matched = worst <= bound and (row.dropped or 0.0) <= contender.tolerance
    entry.set(error=worst, against=reference.against, bound=bound, matched=matched)
    if not entry.result.accepted or seconds > limits.seconds:
        entry.run = None


def _speed(
    entry: _Entry, case: Case, peak_flops: float, copy_bytes: float, one: float | None, device: Device
) -> dict[str, Any]:
    """What follows from a contender's times: fields of its row."""
    contender = entry.contender
    speed = summary(entry.times)
    seconds = speed["seconds"]
    speed["frames_per_second"] = 1 / seconds
    if one is not None:
        speed["speedup"] = one / seconds
    if contender.exact:
        speed["share_of_peak"] = contender.work(case) / seconds / peak_flops
    if entry.single_times:
        step = (seconds - median(entry.single_times)) / (case.steps - 1)
        speed["step_seconds"] = step
        if step > 0:  # a step may drown in the noise of what comes before it
            if contender.exact:
                work = contender.work(case) - contender.work(case.with_steps(1))
                speed["step_share_of_peak"] = work / (case.steps - 1) / step / peak_flops
            elif entry.result.pairs is not None:
                speed["share_of_copy"] = device.step_bytes(case, entry.result.pairs) / step / copy_bytes
    return speed
