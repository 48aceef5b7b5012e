"""Contenders on one case: each checked against float64, timed in turn within one run, or left out with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from . import machine
from .cases import Case, Problem
from .contender import Contender, Run, Unavailable
from .reference import Expected
from .stage import Host


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
    memory: float = field(default_factory=lambda: machine.free_memory() / 2)
    rounds: int = 3
    measure_memory: bool = True

    def __post_init__(self) -> None:
        for name in ("seconds", "memory"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.rounds < 1:
            raise ValueError(f"rounds: expected 1 or more, got {self.rounds}")


@dataclass
class _Entrant:
    """A contender on its way through the rounds, and its row of the record."""

    contender: Contender
    row: dict[str, Any]
    run: Run | None = None  # None: left out, or not to be run again
    prepared: Run | None = None
    times: list[float] = field(default_factory=list)
    # Of one transition: what the others take beside it is the steps' alone.
    single: Run | None = None
    single_times: list[float] = field(default_factory=list)


def compare(
    case: Case,
    contenders: list[Contender],
    limits: Limits,
    *,
    cache: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
    stage: Host | None = None,
) -> dict[str, Any]:
    """Run contenders on a case, in turn.

    Args:
        case: what is walked.
        contenders: who walks; the stage's ``unit``, where it runs, is the unit of the speed-ups.
        limits: what one may take.
        cache: folder for float64 references that take minutes.
        note: told what is done, a line at a time.
        stage: where it runs; None for the processor.

    Returns:
        For a record: ``case``; ``load``, ``peak_flops``, ``copy_bytes`` of the rounds; ``rows``, one for each
        contender. A row has ``skipped`` or ``failed`` with a reason, or ``error``, ``against``, ``bound``, ``matched``
        and, only where it matched, its times and what follows from them.
    """
    note(case.title())
    stage = stage or Host()
    problem = case.problem()
    entrants = []
    for contender in contenders:
        row = {"contender": contender.key, "label": contender.label, "operator": contender.operator}
        entrants.append(_admit(_Entrant(contender, row), problem, limits, note, stage))

    references: dict[str, Expected] = {}
    for operator in {e.contender.operator for e in entrants if e.run}:
        references[operator] = stage.expected(problem, operator, memory=limits.memory, cache=cache, note=note)

    rounds = []
    for number in range(limits.rounds):
        rounds.append((machine.load(), stage.peak_flops(), stage.copy_bytes()))
        for entrant in [e for e in entrants if e.run]:
            note(f"round {number + 1} of {limits.rounds}: {entrant.contender.label}")
            _turn(entrant, references[entrant.contender.operator], case, limits, stage)

    load, peak_flops, copy_bytes = (list(measured) for measured in zip(*rounds, strict=True))
    compared = {
        "case": case.as_dict(),
        "load": load,
        "peak_flops": median(peak_flops),
        "copy_bytes": median(copy_bytes),
        "rows": [e.row for e in entrants],
    }
    unit = next((median(e.times) for e in entrants if e.contender.key == stage.unit and e.row.get("matched")), None)
    for entrant in [e for e in entrants if e.row.get("matched")]:
        entrant.row |= _speed(entrant, case, compared, unit, stage)
        if limits.measure_memory:
            note(f"memory: {entrant.contender.label}")
            entrant.row["peak_bytes"] = stage.peak_memory(case, entrant.contender, entrant.prepared)
    return compared


def _admit(entrant: _Entrant, problem: Problem, limits: Limits, note: Callable[[str], None], stage: Host) -> _Entrant:
    """Warm a contender up and make it ready to run; or say in its row why not."""
    contender, case = entrant.contender, problem.case
    memory = contender.memory(case)
    if memory > limits.memory:
        entrant.row["skipped"] = (
            f"would take about {memory / 2**30:.1f} GiB, the limit is {limits.memory / 2**30:.1f} GiB"
        )
        return entrant
    note(f"warm up: {contender.label}")
    small = case.small().problem()
    try:
        run = contender.prepare(small)
        run()
        seconds, _ = stage.timed(run)
        estimate = seconds * contender.work(case) / max(1, contender.work(small.case))
        if estimate > limits.seconds:
            entrant.row["skipped"] = (
                f"would take about {estimate:.0f} s, the limit is {limits.seconds:g} s "
                f"(by operations, from a run of {small.case.pixels} pixels and {small.case.steps} step)"
            )
            return entrant
        if contender.facts is not None:
            entrant.row |= contender.facts(problem)
        if contender.pairs is not None and case.steps > 1:
            entrant.row["pairs"] = contender.pairs(problem)
        if entrant.row.get("pairs") is not None and case.steps > 1:
            entrant.single = contender.prepare(replace(problem, case=replace(case, steps=1)))
        entrant.run = entrant.prepared = contender.prepare(problem)
    except Unavailable as reason:
        entrant.row["skipped"] = str(reason)
    except Exception as error:  # whatever a library raises, the others still run
        entrant.row["failed"] = _reason(error)
    return entrant


def _turn(entrant: _Entrant, reference: Expected, case: Case, limits: Limits, stage: Host) -> None:
    """One timed run of a contender, and its error."""
    row = entrant.row
    try:
        seconds, result = stage.timed(entrant.run)
        if entrant.single is not None:
            entrant.single_times.append(stage.timed(entrant.single)[0])
    except Exception as error:  # as above
        row |= {"failed": _reason(error), "matched": False}
        entrant.run = None
        return
    entrant.times.append(seconds)
    error = max(row.get("error", 0.0), reference.error(result), key=lambda e: (e != e, e))  # NaN is the worst
    row |= {"error": error, "against": reference.against, "bound": entrant.contender.bound(case)}
    row["matched"] = error <= row["bound"] and row.get("dropped", 0.0) <= entrant.contender.tolerance
    if not row["matched"] or seconds > limits.seconds:
        entrant.run = None


def _speed(entrant: _Entrant, case: Case, compared: dict[str, Any], unit: float | None, stage: Host) -> dict[str, Any]:
    contender, seconds = entrant.contender, median(entrant.times)
    speed: dict[str, Any] = {
        "seconds": seconds,
        "spread": max(entrant.times) / min(entrant.times),
        "runs": entrant.times,
        "frames_per_second": 1 / seconds,
    }
    if unit is not None:
        speed["speedup"] = unit / seconds
    if contender.exact:
        speed["share_of_peak"] = contender.work(case) / seconds / compared["peak_flops"]
    if entrant.single_times:
        step = (seconds - median(entrant.single_times)) / (case.steps - 1)
        speed["step_seconds"] = step
        if step > 0:  # a step may drown in the noise of what comes before it
            if contender.exact:
                work = contender.work(case) - contender.work(replace(case, steps=1))
                speed["step_share_of_peak"] = work / (case.steps - 1) / step / compared["peak_flops"]
            else:
                moved = stage.step_bytes(case, entrant.row["pairs"])
                speed["share_of_copy"] = moved / step / compared["copy_bytes"]
    return speed


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
