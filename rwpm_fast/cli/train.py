"""The sub-command ``train``: which training it is."""

from __future__ import annotations

import argparse

from . import train_compact, train_synboost

SUMMARY = "Train SynBoost, Image Resynthesis++ or the compact network; what was interrupted goes on."

METHODS = {**dict.fromkeys(train_synboost.SUMMARIES, train_synboost), "compact": train_compact}
SUMMARIES = {**train_synboost.SUMMARIES, "compact": train_compact.SUMMARY}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    methods = parser.add_subparsers(dest="method", required=True, metavar="METHOD")
    for name, module in METHODS.items():
        module.add_arguments(methods.add_parser(name, help=SUMMARIES[name], description=SUMMARIES[name]))


def run(options: argparse.Namespace) -> int:
    return METHODS[options.method].run(options)
