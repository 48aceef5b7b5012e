"""The command ``python -m bench``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rwpm_fast.benchmark import isas
from rwpm_fast.cli.bench import add_arguments, bench
from rwpm_fast.io.console import run_command

from .suites.cpu_peers import peers

CACHE = Path(__file__).parents[1] / "build" / "bench"
SUMMARY = "Time the walk in every instruction set and every peer, in turn, each result checked against float64 first."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=SUMMARY)
    add_arguments(parser)
    return run_command(
        parser,
        lambda options: bench(options, parser.prog, default_isas=isas(), peers=peers(), cache=CACHE),
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
