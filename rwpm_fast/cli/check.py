"""The sub-command ``check``."""

from __future__ import annotations

import argparse
import json

from ..io.extras import require_extras
from ..io.progress import progress
from ..io.text import printable_lines
from .datasets import add_dataset_options, add_folder_options, names_folders, open_dataset, open_folders

SUMMARY = "Read a whole data set, or two folders, and report what is missing or odd."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_options(parser, positional=True, optional=True)
    add_folder_options(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    from ..data import check

    require_extras("check", "PIL.Image")
    of_folders = names_folders(options, dataset="NAME", root="ROOT")
    dataset = open_folders(options, complete=False) if of_folders else open_dataset(options)
    report = check(dataset, progress(dataset.frames, "check"))
    print(json.dumps(report.as_dict(), indent=2) if options.json else printable_lines(report.text()))
    return 0 if report.ok else 1
