"""Options that name a data set, for the sub-commands that read one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import Dataset


def add_dataset_options(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    """Name and root as positional arguments, or several as ``--dataset`` and ``--root``, and how to read them."""
    # The names themselves stand where torch is imported, which other sub-commands do without.
    names = "data set, such as anomaly_track; a name that is none lists them all"
    group = parser.add_argument_group("data set")
    if positional:
        group.add_argument("dataset", metavar="NAME", help=names)
        group.add_argument("root", metavar="ROOT", type=Path, help="its folder, or the folder around it")
    else:
        group.add_argument("--dataset", nargs="+", metavar="NAME", help=f"{names}; several for one table")
        group.add_argument(
            "--root", type=Path, nargs="+", metavar="DIR", help="the folder around all, or one for each data set"
        )
    group.add_argument(
        "--protocol",
        help="official, or rwpm: as the released RWPM code reads it (default: official)",
    )
    group.add_argument("--split", help="which frames (default: the data set's usual ones)")
    group.add_argument("--layout", help="the layout of its folders (default: the one that is found)")
    group.add_argument(
        "--source", type=Path, metavar="DIR", help="root of Lost & Found or Cityscapes, for Fishyscapes' own archives"
    )


def open_dataset(options: argparse.Namespace, name: str | None = None, root: Path | None = None) -> Dataset:
    """A data set, that of the positional arguments where none is named, read as the options say."""
    from .. import data

    return data.open_dataset(
        name or options.dataset,
        root or options.root,
        protocol=options.protocol or "official",
        split=options.split,
        layout=options.layout,
        source=options.source,
    )


def named_datasets(options: argparse.Namespace) -> list[Dataset]:
    """The data sets, or the two folders, that the options name."""
    from ..data import folders

    named = options.dataset is not None or options.root is not None
    wanted, others = ("dataset", "root"), ("images", "labels", "positive", "negative")
    if not named:
        wanted, others = ("images", "labels"), ("protocol", "split", "layout", "source")
    if any(getattr(options, name) is None for name in wanted):
        raise ValueError("expected --dataset and --root, or --images and --labels")
    if ignored := [f"--{name}" for name in others if getattr(options, name) is not None]:
        raise ValueError(f"{', '.join(ignored)}: not with --{wanted[0]} and --{wanted[1]}")
    if not named:
        values = {"positive": options.positive or [1], "negative": options.negative or [0]}
        return [folders(options.images, options.labels, limit=options.photos, **values)]
    return [_labeled(open_dataset(options, name, root)) for name, root in _names_and_roots(options, options.dataset)]


def _names_and_roots(options: argparse.Namespace, names: Sequence[str]) -> list[tuple[str, Path]]:
    """Each data set's name with its folder."""
    roots = options.root * len(names) if len(options.root) == 1 else options.root
    if len(roots) != len(names):
        raise ValueError(f"--root: expected one folder, or one for each of {len(names)} data sets, got {len(roots)}")
    return list(zip(names, roots, strict=True))


def published_datasets(options: argparse.Namespace) -> tuple[list[Dataset], list[str]]:
    """The data sets of the published tables that are named, or else all that are there; what is not, in words."""
    from ..io.images import ImageError
    from ..presets import BENCHMARKS

    for name in ("images", "labels", "positive", "negative"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name}: table {options.table} is of data sets; give --root, and --dataset for some of them"
            )
    if options.root is None:
        raise ValueError(f"--table {options.table}: expected --root, the folder around the data sets")
    if options.dataset is not None:
        datasets = named_datasets(options)
        if strange := [d.name for d in datasets if d.benchmark.preset is None]:
            raise ValueError(
                f"--dataset: nothing is published for {strange[0]}; expected some of {', '.join(BENCHMARKS)}"
            )
        return datasets, []
    datasets, notes = [], []
    for name, root in _names_and_roots(options, BENCHMARKS):
        try:
            datasets.append(_labeled(open_dataset(options, name, root)))
        except ImageError:
            notes.append(f"{name} is not in {root}.")
    if not datasets:
        raise ImageError(f"--root: none of {', '.join(BENCHMARKS)} is in {options.root[0]}")
    if len({dataset.frames[0].photo for dataset in datasets}) < len(datasets):  # plain images/ and labels/
        names = ", ".join(dataset.name for dataset in datasets)
        raise ValueError(f"--root: the same photos may be {names}; say by --dataset which")
    return datasets, notes


def _labeled(dataset: Dataset) -> Dataset:
    """The data set, if there is something and all of it can be evaluated with."""
    from ..io.images import ImageError

    if not len(dataset):
        raise ImageError(f"{dataset.name} in {dataset.root}: no frame is of split {dataset.split}")
    dataset.require_complete()
    if unlabeled := sum(frame.label is None for frame in dataset):
        raise ValueError(
            f"--split: {unlabeled} of {len(dataset)} frames of {dataset.split} have no labels to evaluate with"
        )
    return dataset
