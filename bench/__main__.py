"""Time the walk in every instruction set and every peer, in turn, each result checked against float64 first."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rwpm_fast.benchmark import isas
from rwpm_fast.cli.bench import add_arguments, bench

from .suites.cpu_peers import peers

CACHE = Path(__file__).parents[1] / "build" / "bench"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        return bench(options, parser.prog, default_isas=isas(), peers=peers(), cache=CACHE)
    except (ValueError, TypeError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
