"""Options that name a data set, for the sub-commands that read one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import Dataset


def add_dataset_options(parser: argparse.ArgumentParser, *, positional: bool, optional: bool = False) -> None:
    """Add name and root of a data set, and how to read it.

    Args:
        parser: the parser of the sub-command.
        positional: one name and root as positional arguments; else several as ``--dataset`` and ``--root``.
        optional: the positional arguments may be left out.
    """
    # Listing the names here would import torch, which other sub-commands do without.
    names = "data set, such as anomaly_track; an unknown name lists them all"
    group = parser.add_argument_group("data set")
    if positional:
        nargs = "?" if optional else None
        group.add_argument("dataset", nargs=nargs, metavar="NAME", help=names)
        group.add_argument("root", nargs=nargs, metavar="ROOT", type=Path, help="its folder, or the folder around it")
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
    group.add_argument(
        "--orientation",
        help="how labels belong to photos that an EXIF orientation turns: stored or upright (default: as their sizes "
        "tell, else stored)",
    )


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add two folders in place of a data set, and the meaning of the label values there."""
    group = parser.add_argument_group("photos and labels of any two folders, in place of a data set")
    group.add_argument("--images", type=Path, help="folder of photos")
    group.add_argument("--labels", type=Path, help="folder of label PNGs with the photos' stems")
    group.add_argument("--positive", type=int, nargs="+", help="label values of anomalies (default: 1)")
    group.add_argument("--negative", type=int, nargs="+", help="label values of inliers (default: 0)")
    group.add_argument(
        "--void", type=int, nargs="+", help="label values to ignore; others are errors (default: all others are void)"
    )


def names_folders(options: argparse.Namespace, *, dataset: str, root: str) -> bool:
    """Whether the options give two folders, rather than a data set.

    Args:
        options: the parsed options.
        dataset: how the option of the data set's name is called, for messages.
        root: how that of its root is called.

    Raises:
        ValueError: options of both, or only half of one.
    """
    named = options.dataset is not None or options.root is not None
    called = {"dataset": dataset, "root": root, "images": "--images", "labels": "--labels"}
    wanted = ("dataset", "root") if named else ("images", "labels")
    if any(getattr(options, name) is None for name in wanted):
        raise ValueError(f"expected {dataset} and {root}, or --images and --labels")
    others = (
        ("images", "labels", "positive", "negative", "void") if named else ("protocol", "split", "layout", "source")
    )
    if ignored := [f"--{name}" for name in others if getattr(options, name) is not None]:
        raise ValueError(f"{', '.join(ignored)}: not with {' and '.join(called[name] for name in wanted)}")
    return not named


def open_folders(options: argparse.Namespace, *, limit: int | None = None, complete: bool = True) -> Dataset:
    """Open the two folders of :func:`add_folder_options`; see :func:`rwpm_fast.data.folders`."""
    from .. import data

    return data.folders(
        options.images,
        options.labels,
        positive=options.positive or [1],
        negative=options.negative or [0],
        void=options.void,
        orientation=options.orientation,
        limit=limit,
        complete=complete,
    )


def open_dataset(options: argparse.Namespace) -> Dataset:
    """Open the data set of the positional arguments.

    Raises:
        ValueError: an unknown name, protocol, split or layout.
        ImageError: no such folder, or no layout fits.
    """
    from .. import data

    return data.open_dataset(
        options.dataset,
        options.root,
        protocol=options.protocol or "official",
        split=options.split,
        layout=options.layout,
        source=options.source,
        orientation=options.orientation,
    )
