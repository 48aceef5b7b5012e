"""Options that name a data set, for the sub-commands that read one."""

from __future__ import annotations

import argparse
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
        default="official",
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

    return data.open(
        name or options.dataset,
        root or options.root,
        protocol=options.protocol,
        split=options.split,
        layout=options.layout,
        source=options.source,
    )
