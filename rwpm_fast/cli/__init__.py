"""The command ``rwpm-fast`` and its sub-commands."""

from __future__ import annotations

import argparse

from .. import __version__
from ..io.console import run_command
from . import (
    bench,
    benchmark,
    check,
    demo,
    evaluate,
    export,
    figure,
    info,
    score,
    serve,
    stream,
    submit,
    temporal,
    train,
)

COMMANDS = {
    "score": score,
    "stream": stream,
    "check": check,
    "evaluate": evaluate,
    "temporal": temporal,
    "submit": submit,
    "train": train,
    "export": export,
    "figure": figure,
    "demo": demo,
    "serve": serve,
    "benchmark": benchmark,
    "bench": bench,
    "info": info,
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="rwpm-fast", description="Anomaly segmentation for driving by random walks on pixel manifolds."
    )
    top.add_argument("--version", action="version", version=f"rwpm-fast {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=module.SUMMARY, description=module.SUMMARY))
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command.

    Args:
        arguments: words after ``rwpm-fast``; None for those of this process.

    Returns:
        0; 1 when a photo failed and the others ran, or not all could be printed; 2 when nothing could be done, with the
        reason on standard error; 130 when it was interrupted.
    """
    return run_command(parser(), lambda options: COMMANDS[options.command].run(options), arguments)
