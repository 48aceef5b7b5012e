"""Data sets of a config: opened, complete, and with labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data import Dataset, open_dataset
from ..io.images import ImageError
from ..presets import BENCHMARKS
from .config import ConfigError, EvaluationConfig


def open_datasets(config: EvaluationConfig) -> list[Dataset]:
    """Open the data sets that a config gives or names.

    Raises:
        ConfigError: none is given, or not one folder for each.
        ImageError: a data set that is not found, or lacks files or labels.
        ValueError: an unknown name, protocol, split or layout.
    """
    datasets = config.dataset_list()
    if not datasets:
        raise ConfigError("{datasets}: expected one or more")
    names = [dataset for dataset in datasets if isinstance(dataset, str)]
    roots = iter(_roots(config, names) if names else [])
    return [
        _require_labels(_open(config, dataset, next(roots)) if isinstance(dataset, str) else dataset)
        for dataset in datasets
    ]


def open_benchmarks(config: EvaluationConfig) -> tuple[list[tuple[Dataset, str]], list[str]]:
    """Open the data sets of a table of all published benchmarks: those of the config, or else all below its root.

    Returns:
        Data sets, each with the benchmark whose published walks it uses, and sentences about the benchmarks that are
        missing.

    Raises:
        ConfigError: no root, a data set for which nothing is published, or none found.
        ImageError: a data set that is not found, or lacks files or labels.
        ValueError: an unknown name, protocol, split or layout.
    """
    datasets, missing = open_table_datasets(config, BENCHMARKS)
    pairs = []
    for dataset in datasets:
        benchmark = preset_benchmark(dataset)
        if benchmark is None:
            facts = {"name": dataset.name, "published": ", ".join(BENCHMARKS)}
            raise ConfigError("{datasets}: nothing is published for {name}; expected some of {published}", facts)
        pairs.append((dataset, benchmark))
    return pairs, missing


def open_table_datasets(config: EvaluationConfig, names: Sequence[str]) -> tuple[list[Dataset], list[str]]:
    """Open the data sets of a table: those of the config, or else all of some names that are below its root.

    Args:
        config: the config.
        names: of the table's data sets, in ``rwpm_fast.data.BENCHMARKS``.

    Returns:
        Data sets, and sentences about those of ``names`` that are missing.

    Raises:
        ConfigError: no root, or none found.
        ImageError: a data set of the config that is not found, or lacks files or labels.
        ValueError: an unknown name, protocol, split or layout.
    """
    given = config.dataset_list()
    if config.root is None and (not given or any(isinstance(dataset, str) for dataset in given)):
        raise ConfigError("{table} {name}: expected {root}, the folder around the data sets", {"name": config.table})
    return (open_datasets(config), []) if given else _find_benchmarks(config, names)


def preset_benchmark(dataset: Dataset) -> str | None:
    """Return the benchmark in ``rwpm_fast.presets.BENCHMARKS`` whose published walks a data set uses; None without."""
    return None if dataset.benchmark is None else dataset.benchmark.preset


def _find_benchmarks(config: EvaluationConfig, names: Sequence[str]) -> tuple[list[Dataset], list[str]]:
    """Open the benchmarks that are below the root; with sentences about the others."""
    datasets, missing = [], []
    for name, root in zip(names, _roots(config, names), strict=True):
        try:
            datasets.append(_require_labels(_open(config, name, root)))
        except ImageError:
            missing.append(f"{name} is not in {root}.")
    if not datasets:
        facts = {"names": ", ".join(names), "folder": config.root_list()[0]}
        raise ConfigError("{root}: none of {names} is in {folder}", facts)
    plain = [dataset for dataset in datasets if dataset.layout == "plain"]  # images/ and labels/, of whatever
    if len({dataset.frames[0].photo for dataset in plain}) < len(plain):
        listed = ", ".join(dataset.name for dataset in plain)
        raise ConfigError("{root}: the same photos may be {names}; say by {datasets} which", {"names": listed})
    return datasets, missing


def _open(config: EvaluationConfig, name: str, root: Path) -> Dataset:
    return open_dataset(
        name,
        root,
        protocol=config.protocol,
        split=config.split,
        layout=config.layout,
        source=config.source,
        orientation=config.orientation,
    )


def _roots(config: EvaluationConfig, names: Sequence[str]) -> list[Path]:
    """Return the folder of each named data set."""
    roots = config.root_list()
    if not roots:
        raise ConfigError("{root}: expected the folder around the data sets, or one for each")
    roots = roots * len(names) if len(roots) == 1 else roots
    if len(roots) != len(names):
        facts = {"count": len(names), "got": len(roots)}
        raise ConfigError("{root}: expected one folder, or one for each of {count} data sets, got {got}", facts)
    return roots


def _require_labels(dataset: Dataset) -> Dataset:
    """Return the data set if it is not empty, complete, and all of it has labels, with anomalies among them."""
    if not len(dataset):
        raise ImageError(f"{dataset.name} in {dataset.root}: no frame is of split {dataset.split}")
    splits = {} if dataset.benchmark is None else dataset.benchmark.splits
    if dataset.split in splits and not splits[dataset.split].anomalies:
        others = " or ".join(name for name, other in splits.items() if other.anomalies)
        where = {"name": dataset.name, "got": dataset.split, "others": others}
        raise ConfigError("{split}: {name} has anomalies in {others} only, got {got}", where)
    dataset.require_complete()
    if unlabeled := sum(frame.label is None for frame in dataset):
        facts = {"unlabeled": unlabeled, "count": len(dataset), "name": dataset.split}
        raise ConfigError("{split}: {unlabeled} of {count} frames of {name} have no labels to evaluate with", facts)
    return dataset
