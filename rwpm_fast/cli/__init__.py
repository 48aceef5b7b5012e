"""The command ``rwpm-fast`` and its sub-commands."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from ..memory import is_out_of_memory
from . import bench, check, demo, evaluate, info, score, submit

COMMANDS = {
    "score": score,
    "check": check,
    "evaluate": evaluate,
    "submit": submit,
    "demo": demo,
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
        summary = (module.__doc__ or "").strip().splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command.

    Args:
        arguments: words after ``rwpm-fast``; None for those of this process.

    Returns:
        0; 1 when a photo failed and the others ran; 2 when nothing could be done, with the reason on standard error;
        130 when it was interrupted.
    """
    options = parser().parse_args(arguments)
    try:
        return COMMANDS[options.command].run(options)
    # Errors that users can correct: a path, a setting, a file, the environment. Others keep their traceback.
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"rwpm-fast {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        way_out = "use smaller photos, or run where a process may take more"
        print(f"rwpm-fast {options.command}: out of memory; {way_out} ({error})", file=sys.stderr)
        return 2
