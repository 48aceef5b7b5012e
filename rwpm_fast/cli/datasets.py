"""Options that name a data set, for the sub-commands that read one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import Dataset


def add_dataset_options(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    """Add name and root of a data set, and how to read it.

    Args:
        parser: the parser of the sub-command.
        positional: one name and root as positional arguments; else several as ``--dataset`` and ``--root``.
    """
    # Listing the names here would import torch, which other sub-commands do without.
    names = "data set, such as anomaly_track; an unknown name lists them all"
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
    )
