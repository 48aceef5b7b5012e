"""The sub-command ``figure``: each figure is a sub-command of its own."""

from __future__ import annotations

import argparse

from . import figure_tighten

SUMMARY = "Draw a figure of what the walk does, with the numbers behind it."

FIGURES = {"tighten": figure_tighten}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    figures = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    for name, module in FIGURES.items():
        module.add_arguments(figures.add_parser(name, help=module.SUMMARY, description=module.SUMMARY))


def run(options: argparse.Namespace) -> int:
    return FIGURES[options.figure].run(options)
