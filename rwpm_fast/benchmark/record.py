"""Records of the benchmark, as they are kept in JSON: cases, and in each a result for every contender."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any, TypeVar

from . import machine
from .cases import Case

# Of the JSON. Before 2, the operations of this package's exact walk were counted as if every transition made a cosine
# for each of both pixels of a pair, so that its shares of the peak came out too large.
FORMAT = 2

T = TypeVar("T")


def from_fields(kind: type[T], content: Mapping[str, Any]) -> T:
    """Make a data class from JSON; keys that are none of its fields are left out."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in content.items() if name in known})


def to_fields(instance: Any) -> dict[str, Any]:
    """The fields of a data class that are neither None nor empty, for JSON."""
    return {name: value for name, value in asdict(instance).items() if value is not None and value != ()}


def shareable(words: Iterable[str]) -> str:
    """A command for a record: files by their names, without the folders of this machine."""
    return shlex.join(re.sub(r"(^|=)[^=]*/", r"\1", word) for word in words)


def summary(runs: Sequence[float]) -> dict[str, Any]:
    """Seconds of runs, their median, and the longest over the shortest: fields of a result."""
    return {"runs": tuple(runs), "seconds": median(runs), "spread": max(runs) / min(runs)}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a walk: left out or failed with a reason, or its error and, only where that is as it should be,
    its times.

    Attributes:
        skipped: why it was left out.
        failed: how it failed.
        error: norm-wise relative error, of all runs the largest.
        against: what it was compared with.
        bound: what the error may be.
        matched: whether all runs gave what the walk's contract says.
        expected: what the error was expected to stay below where no contract bounds it.
        path: see :class:`rwpm_fast.ops.info.WalkInfo`.
        runs: seconds of the rounds.
        seconds: their median.
        frames_per_second: of the median.
    """

    skipped: str | None = None
    failed: str | None = None
    error: float | None = None
    against: str | None = None
    bound: float | None = None
    matched: bool = False
    expected: float | None = None
    path: str | None = None
    runs: tuple[float, ...] = ()
    seconds: float | None = None
    frames_per_second: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether it gave what it should, and so has times: it matched, or was as near as was expected of it."""
        near = self.expected is not None and self.error is not None and self.error <= self.expected
        return self.matched or (near and self.failed is None)

    @property
    def sound(self) -> bool:
        """Whether it is accepted; what a limit left out does not count."""
        return self.skipped is not None or self.accepted

    def to_json(self) -> dict[str, Any]:
        return to_fields(self)


@dataclass(frozen=True, kw_only=True)
class Result(Outcome):
    """A contender's row.

    Attributes:
        contender: its key.
        label: how tables call it.
        operator: what it computes.
        pairs: that every transition reads.
        dropped: largest share of its mass that a row dropped.
        note: what its reader must know of it on this machine.
        spread: the longest run over the shortest.
        speedup: time of the contender whose time is one, over this one's.
        share_of_peak: operations a second over the peak that was measured in the same run.
        step_seconds: of a transition: the difference of T and of one, over T - 1.
        step_share_of_peak: of an exact transition, as ``share_of_peak``.
        share_of_copy: bytes a second of a sparse transition over those of a copy.
        peak_bytes: memory beyond the inputs.
        predicted: seconds that it was expected to take, at least and at most; see
            :func:`rwpm_fast.ops.estimate.estimate_walk`.
    """

    contender: str
    label: str
    operator: str
    pairs: int | None = None
    dropped: float | None = None
    note: str | None = None
    spread: float | None = None
    speedup: float | None = None
    share_of_peak: float | None = None
    step_seconds: float | None = None
    step_share_of_peak: float | None = None
    share_of_copy: float | None = None
    peak_bytes: int | None = None
    predicted: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any], format: int = FORMAT) -> Result:
        """The row of a record of some format, without the shares that older ones counted otherwise."""
        content = dict(content)
        for name in ("operator", "against"):
            if name in content:
                content[name] = content[name].replace("neighbours", "neighbors")  # as records before format 2 spell it
        if "against" in content and content.get("error") is None:
            content["error"] = float("nan")  # which JSON cannot say
        if format < 2 and content["contender"].startswith("exact-"):
            for name in ("share_of_peak", "step_share_of_peak"):
                content.pop(name, None)
        return from_fields(cls, content)


@dataclass(frozen=True)
class Comparison:
    """Contenders on one case, with the load, the peak and the copy rate of the rounds."""

    case: Case
    load: tuple[float, ...]
    peak_flops: float
    copy_bytes: float
    rows: tuple[Result, ...]

    def to_json(self) -> dict[str, Any]:
        rates = {"load": self.load, "peak_flops": self.peak_flops, "copy_bytes": self.copy_bytes}
        return {"case": self.case.to_json(), **rates, "rows": [row.to_json() for row in self.rows]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], format: int = FORMAT) -> Comparison:
        rows = tuple(Result.from_json(row, format) for row in content["rows"])
        case = Case.from_json(content["case"])
        return cls(case, tuple(content["load"]), content["peak_flops"], content["copy_bytes"], rows)


@dataclass(frozen=True)
class FilterResult:
    """The filter alone on a map, by an instruction set; see :func:`rwpm_fast.benchmark.filter.time_filter`.

    Attributes:
        name: of the map; ``height``, ``width``, ``pixels`` and ``channels`` are its sizes.
        isa: instruction set.
        format: of the numbers that it multiplies.
        matched: whether it found the pairs that float64 finds; only then there are times.
        operations: of a pass, a multiply-add counted as two, without those of channels and pixels that pad.
        load: of the machine, by round.
        runs: seconds, by round; ``seconds`` and ``spread`` as of :class:`Result`.
        peaks: operations a second of its instructions, by round.
        operations_per_second: of the median run.
        peak_operations_per_second: the median peak.
        share_of_peak: the one over the other.
    """

    name: str
    height: int
    width: int
    pixels: int
    channels: int
    isa: str
    format: str
    matched: bool
    operations: int | None = None
    load: tuple[float, ...] = ()
    runs: tuple[float, ...] = ()
    peaks: tuple[float, ...] = ()
    seconds: float | None = None
    spread: float | None = None
    operations_per_second: float | None = None
    peak_operations_per_second: float | None = None
    share_of_peak: float | None = None

    def to_json(self) -> dict[str, Any]:
        return to_fields(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FilterResult:
        return from_fields(cls, content)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where figures come from.

    Attributes:
        command: that made them.
        commit: of this package, ``-dirty`` where files differed from it; None outside a checkout.
        machine: see :func:`rwpm_fast.benchmark.machine.facts`.
        limits: see :class:`rwpm_fast.benchmark.runner.Limits`.
        rounds: how often every contender ran.
    """

    command: str
    commit: str | None = field(default_factory=lambda: machine.commit())
    machine: dict[str, Any]
    limits: dict[str, float]
    rounds: int

    def provenance(self) -> dict[str, Any]:
        """The above, for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(Provenance)} | {"format": FORMAT}

    @property
    def where(self) -> str:
        """The GPU, or the processor and its threads."""
        gpu = self.machine.get("gpu")
        return gpu["name"] if gpu else f"{self.machine['processor']}, {self.machine['torch_threads']} threads"

    @property
    def versions(self) -> str:
        """Of torch and of this package."""
        package = f"rwpm_fast {self.machine['rwpm_fast']} at {self.commit or 'no commit'}"
        return f"torch {self.machine['torch']}, {package}"


@dataclass(frozen=True, kw_only=True)
class Record(Provenance):
    """Cases, or filters, of one command.

    Attributes:
        cases: what :func:`rwpm_fast.benchmark.compare` gave.
        filters: what :func:`rwpm_fast.benchmark.time_filter` gave; ``filter`` in JSON.
        kind: "walk", or "fps": the tables that it gets.
        network_ms: time of a network before the walk, 0 for none: tables of frames a second add it.
    """

    cases: tuple[Comparison, ...] = ()
    filters: tuple[FilterResult, ...] = ()
    kind: str = "walk"
    network_ms: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether all that ran, walks and filters, gave what they should."""
        return all(row.sound for compared in self.cases for row in compared.rows) and all(
            row.matched for row in self.filters
        )

    def to_json(self) -> dict[str, Any]:
        content = self.provenance() | {"kind": self.kind, "network_ms": self.network_ms}
        content["cases"] = [compared.to_json() for compared in self.cases]
        return content | ({"filter": [row.to_json() for row in self.filters]} if self.filters else {})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """A record of any format.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        format = content.get("format", 1)
        return cls(
            **{f.name: content[f.name] for f in fields(Provenance)},
            cases=tuple(Comparison.from_json(compared, format) for compared in content["cases"]),
            filters=tuple(map(FilterResult.from_json, content.get("filter", ()))),
            kind=content.get("kind", "walk"),
            network_ms=content.get("network_ms", 0.0),
        )
