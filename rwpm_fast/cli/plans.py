"""What an evaluation runs: the options as networks, data sets and the rows of walks on each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets import named_datasets, published_datasets
from .options import given_walk_settings, walk_settings

if TYPE_CHECKING:
    from ..data import Dataset, Frame
    from ..evaluate.published import Row


@dataclass(frozen=True)
class Run:
    """One network on one data set.

    Attributes:
        title: of the data set, and of the method where there are several.
        dataset: the data set.
        frames: those to use.
        network: its name.
        weights: its file.
        rows: walks to compare.
        track: of the component metrics; None without.
    """

    title: str
    dataset: Dataset
    frames: Sequence[Frame]
    network: str
    weights: Path | None
    rows: Sequence[Row]
    track: str | None = None


@dataclass(frozen=True)
class Plan:
    """All that a command runs, and how its table is headed.

    Attributes:
        title: what it is.
        runs: in order.
        heading: of the column of labels.
        columns: figures to show.
        source: network and data behind the published figures.
        notes: sentences that belong under the table.
    """

    title: str
    runs: Sequence[Run]
    heading: str = "walk"
    columns: Sequence[str] = ("AuROC", "AP", "FPR95")
    source: str = ""
    notes: Sequence[str] = field(default_factory=list)


def plan(options: argparse.Namespace) -> Plan:
    """What the options ask for, checked as far as it can be without a network.

    Raises:
        ValueError: options that do not go together, an unknown name, a setting outside its range.
        ImageError: a data set that is not there or lacks files.
    """
    from ..metrics import PixelMetrics
    from ..scores import get

    for score in options.scores or ():
        get(score)
    PixelMetrics(options.fpr_rule)
    planned = _plan(options)
    for one in planned.runs:
        for row in one.rows:
            row.walk()
        if one.weights is not None and not one.weights.exists():
            raise FileNotFoundError(f"weights: no such file or folder: {one.weights}")
    if len({one.title for one in planned.runs}) < len(planned.runs):
        raise ValueError("--dataset: expected each data set once, since one table cannot tell two of a name apart")
    return replace(planned, notes=[*planned.notes, *map(_described, planned.runs)])


def _described(one: Run) -> str:
    """Network and walk of a run: what its rows have in common."""
    walks = [row.settings for row in one.rows if row.settings is not None]
    shared = {name: value for name, value in walks[0].items() if all(w.get(name) == value for w in walks)}
    walk = ", ".join(f"{name} {value}" for name, value in shared.items())
    return f"{one.title}: {one.network}, {len(one.frames)} photos; walk: {walk}."


def _plan(options: argparse.Namespace) -> Plan:
    from ..evaluate.published import TABLES
    from ..presets import METHODS

    if options.table is not None and options.table not in (*METHOD_TABLES, *TABLES):
        raise ValueError(f"--table: expected one of {', '.join((*METHOD_TABLES, *TABLES))}, got {options.table!r}")
    if options.photos is not None and options.photos < 1:
        raise ValueError(f"--photos: expected 1 or more, got {options.photos}")
    if options.method is not None and options.method not in METHODS:
        raise ValueError(f"METHOD: expected one of {', '.join(METHODS)}, got {options.method!r}")
    if options.table is not None and options.components is not None:
        raise ValueError("--table: has columns of its own; leave --components out")
    if options.table in METHOD_TABLES:
        return METHOD_TABLES[options.table](options)
    if options.table is not None and options.preset is not None:
        raise ValueError(f"--preset: table {options.table} has settings of its own; leave it out")
    if options.checkpoints is not None:
        raise ValueError("--checkpoints: only for --table S1; give a network's file by --weights")
    network, weights = _network(options), options.weights
    datasets = named_datasets(options)
    if options.table is not None:
        return _table(options, datasets, network, weights)
    columns = list(Plan.columns) + (["sIoU", "PPV", "mean F1"] if options.components is not None else [])
    runs = [_run(d.title, d, options, network, weights, _rows(options, d)) for d in datasets]
    of_table = options.preset is not None
    return Plan(
        title=" and ".join(run.title for run in runs),
        runs=runs,
        columns=columns,
        source=f"Table S.1, {METHODS[options.method].title}" if of_table else "",
        notes=_settings_notes(datasets) if of_table else (),
    )


def _s1(options: argparse.Namespace) -> Plan:
    """Every method that has a network, on every benchmark that is there."""
    from ..evaluate.published import method_rows
    from ..presets import METHODS

    datasets, missing = published_datasets(options)
    preset, settings = options.preset or "paper", _common(options)
    runs = []
    for method, weights in _checkpoints(options).items():
        network = options.network or METHODS[method].network
        for d in datasets:
            benchmark = d.benchmark.preset
            rows = _published_of(benchmark, method_rows(method, benchmark, preset, **settings), d)
            runs.append(_run(f"{METHODS[method].title}, {d.title}", d, options, network, weights, rows))
    return Plan(
        "Table S.1: the methods without and with the walk",
        runs,
        source="Table S.1; its tracks look like the benchmarks' test sets",
        notes=[*missing, *_settings_notes(datasets)],
    )


def _s2(options: argparse.Namespace) -> Plan:
    """The walks of all methods on one network, on every benchmark that is there."""
    from ..evaluate.published import settings_rows

    if options.method is not None or options.checkpoints is not None:
        raise ValueError("--table S2: every method's walk on one network; leave METHOD and --checkpoints out")
    datasets, missing = published_datasets(options)
    preset, settings = options.preset or "paper", _common(options)
    runs = [
        _run(
            d.title,
            d,
            options,
            _network(options),
            options.weights,
            settings_rows(d.benchmark.preset, preset, **settings),
        )
        for d in datasets
    ]
    notes = [*missing, *_settings_notes(datasets)]
    return Plan("Table S.2: the walks of the published methods on one network", runs, notes=notes)


def _table(options: argparse.Namespace, datasets: Sequence[Dataset], network: str, weights: Path | None) -> Plan:
    """Tables whose rows differ in their walk only."""
    from ..evaluate import published

    table = published.get(options.table)
    rows = table.with_settings(**_common(options))
    columns = [*table.columns, *(["walk alone, FPS"] if "FPS" in table.columns else [])]
    runs = [_run(d.title, d, options, network, weights, _published_of(published.BENCHMARK, rows, d)) for d in datasets]
    return Plan(f"Table {table.title}", runs, table.heading, columns, table.source)


def _rows(options: argparse.Namespace, dataset: Dataset) -> list[Row]:
    """Without and with the walk, by the options or a published row."""
    from ..evaluate.published import Row, method_rows
    from ..presets import METHODS

    if options.preset is None:
        return [Row("without", None), Row("with", {**walk_settings(options), "calibrated": options.calibrate})]
    benchmark = dataset.benchmark and dataset.benchmark.preset
    if benchmark is None:
        raise ValueError(f"--preset: nothing is published for {dataset.name}; give the walk's settings one by one")
    if options.method is None:
        raise ValueError(f"--preset: expected a METHOD whose settings to take, of {', '.join(METHODS)}")
    rows = method_rows(options.method, benchmark, options.preset, **_common(options))
    return _published_of(benchmark, rows, dataset)


def _published_of(benchmark: str, rows: list[Row], dataset: Dataset) -> list[Row]:
    """Rows of a benchmark, without their published figures where the data set is known to be another."""
    known = dataset.benchmark is not None and dataset.name != benchmark
    return [replace(row, published={}) for row in rows] if known else rows


def _common(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of every row's walk beside the table's."""
    calibrated = {"calibrated": True} if options.calibrate else {}
    return {"tolerance": walk_settings(options)["tolerance"], **given_walk_settings(options), **calibrated}


def _settings_notes(datasets: Sequence[Dataset]) -> list[str]:
    return [
        f"Nothing is published for {d.title}; it takes the walk of {d.benchmark.preset}."
        for d in datasets
        if d.benchmark is not None and d.benchmark.preset not in (None, d.name)
    ]


def _network(options: argparse.Namespace) -> str:
    from ..presets import METHODS

    return options.network or (METHODS[options.method].network if options.method else "compact")


def _checkpoints(options: argparse.Namespace) -> dict[str, Path | None]:
    """Method to its network's file."""
    from ..presets import METHODS

    if options.checkpoints is not None and (options.method is not None or options.weights is not None):
        raise ValueError("--checkpoints: names methods and their weights; leave METHOD and --weights out")
    if options.method is not None:
        return {options.method: options.weights}
    if options.checkpoints is None and options.network is not None:
        return dict.fromkeys(METHODS, options.weights)
    files: dict[str, Path | None] = {}
    for pair in options.checkpoints or []:
        method, _, file = pair.partition("=")
        if method not in METHODS or not file:
            raise ValueError(f"--checkpoints: expected METHOD=FILE, METHOD of {', '.join(METHODS)}, got {pair!r}")
        if method in files:
            raise ValueError(f"--checkpoints: expected a method once, got {method} twice")
        files[method] = Path(file).expanduser()  # no shell looks behind the equals sign
    if not files:
        raise ValueError("--table S1: expected --checkpoints METHOD=FILE ..., or METHOD and --weights, or a --network")
    return files


def _run(
    title: str, dataset: Dataset, options: argparse.Namespace, network: str, weights: Path | None, rows: list[Row]
) -> Run:
    track = None if options.components is None else _track(options, dataset)
    return Run(title, dataset, dataset.frames[: options.photos], network, weights, rows, track)


def _track(options: argparse.Namespace, dataset: Dataset) -> str:
    """The track of the component metrics."""
    from ..metrics import TRACKS

    track = options.components or (dataset.benchmark and dataset.benchmark.track)
    if track not in TRACKS:
        given = f"got {track!r}" if track else f"and {dataset.name} has none of its own"
        raise ValueError(f"--components: expected a track of {', '.join(TRACKS)}, {given}")
    return track


METHOD_TABLES = {"S1": _s1, "S2": _s2}
