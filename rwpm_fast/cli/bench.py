"""Time the walk on maps of your size beside dense torch, each result checked against float64 first."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.files import make_folder_of, write_json
from ..ops.settings import DEFAULTS
from . import fps
from .options import add_threads_option, given, set_threads

if TYPE_CHECKING:
    from ..benchmark import Case, Contender, Limits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("maps")
    size = group.add_mutually_exclusive_group()
    size.add_argument("--pixels", type=int, nargs="+", metavar="N", help="synthetic maps of N pixels (default: 4096)")
    size.add_argument("--shape", type=int, nargs=2, metavar=("H", "W"), help="a synthetic map of H x W pixels")
    size.add_argument("--embeddings", type=Path, nargs="+", metavar="NPZ", help="maps from files: embedding [D, H, W]")
    group.add_argument("--enlarge", type=int, nargs=2, metavar=("H", "W"), help="bilinear size of those files")
    group.add_argument("--channels", type=int, metavar="D", help="of synthetic embeddings (default: 256)")
    group.add_argument("--value-channels", type=int, nargs="+", default=[19], metavar="C", help="(default: 19)")
    group.add_argument("--seed", type=int, default=0, help="of synthetic maps and of values (default: %(default)s)")

    group = parser.add_argument_group("walk")
    group.add_argument(
        "--alpha", type=float, default=DEFAULTS.alpha, help="probability to go on (default: %(default)s)"
    )
    group.add_argument("--steps", type=int, default=DEFAULTS.steps, help="number of transitions (default: %(default)s)")
    group.add_argument(
        "--temperature", type=float, default=DEFAULTS.temperature, help="softmax temperature (default: %(default)s)"
    )

    group = parser.add_argument_group("contenders")
    group.add_argument(
        "--tolerance",
        type=float,
        nargs="*",
        default=[1e-3, 1e-4],
        help="of our walk (default: 1e-3 1e-4)",
    )
    group.add_argument("--isa", nargs="+", help="instruction sets of our walk")
    who = group.add_mutually_exclusive_group()
    who.add_argument("--contenders", nargs="+", metavar="PATTERN", help="only those whose keys match, as 'exact-*'")
    who.add_argument(
        "--filter", action="store_true", help="no walks: the filter of ours alone, beside its instructions' peak"
    )
    group.add_argument("--list", action="store_true", help="print the contenders' keys and run nothing")
    add_threads_option(group)

    group = parser.add_argument_group("limits")
    group.add_argument("--rounds", type=int, default=3, help="runs of each contender, in turn (default: %(default)s)")
    group.add_argument("--seconds", type=float, default=30, help="leave out what a run takes (default: %(default)s)")
    group.add_argument("--memory", type=float, metavar="GIB", help="leave out what takes it (default: half the free)")
    group.add_argument("--no-memory", action="store_true", help="do not measure peak memory, which costs a run each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to FILE")
    kinds = parser.add_subparsers(dest="kind", metavar="fps")
    summary = fps.__doc__.splitlines()[0]
    fps.add_arguments(kinds.add_parser("fps", help=summary, description=summary))


def run(options: argparse.Namespace) -> int:
    from ..benchmark import chosen_isa

    return bench(options, "rwpm-fast bench", add_arguments, default_isas=[chosen_isa()])


def bench(
    options: argparse.Namespace,
    program: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    *,
    default_isas: list[str | None],
    peers: list[Contender] | None = None,
    cache: Path | None = None,
) -> int:
    """Run what the options say, print the table and write the record.

    Args:
        options: what ``add_arguments`` parsed.
        program: the command, for the record.
        default_isas: where the options name none.
        peers: contenders beside ours and torch's.
        cache: folder for float64 references that take minutes.

    Returns:
        0; 1 when a contender failed or did not do what its contract says.
    """
    if options.kind == "fps":
        return fps.bench(options, f"{program} fps", cache=cache)
    from .. import native
    from ..benchmark import chosen, compare, markdown, record, succeeded, time_filter

    # All that a user may have got wrong comes before any work.
    set_threads(options.threads)
    wanted = _isas(options, default_isas)
    contenders = chosen(_contenders(options, wanted) + (peers or []), options.contenders)
    if options.list:
        width = max(len(c.key) for c in contenders)
        print("\n".join(f"{c.key:<{width}}  {c.label}" for c in contenders))
        return 0
    if options.filter and native.unsupported_reason() is not None:
        raise ValueError(f"--filter: needs the compiled kernels: {native.unsupported_reason()}")
    limits = _limits(options)
    cases = _cases(options)
    if options.json:
        make_folder_of(options.json, "--json")

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    compared, filters = [], []
    if options.filter:
        maps = dict.fromkeys(replace(case, value_channels=1) for case in cases)
        filters = [row for m in maps for row in time_filter(m, wanted, limits.rounds, note=note)]
    else:
        compared = [compare(case, contenders, limits, cache=cache, note=note) for case in cases]
    words = given(argparse.Namespace(**{**vars(options), "json": None}), add_arguments)
    made = record(compared, shlex.join([*program.split(), *words]), limits, filters)
    print(markdown(made), end="")
    if options.json:
        write_json(options.json, made)
    return 0 if succeeded(made) else 1


def _isas(options: argparse.Namespace, default_isas: list[str | None]) -> list[str | None]:
    from ..benchmark import isas

    available = isas()
    for isa in options.isa or []:
        if isa not in available:
            names = ", ".join(map(str, available)) if available != [None] else "none, since plain torch serves"
            raise ValueError(f"--isa: expected instruction sets of {names}, got {isa!r}")
    return options.isa or default_isas


def _contenders(options: argparse.Namespace, isas: list[str | None]) -> list[Contender]:
    from ..benchmark import ours, torch_walks

    for tolerance in options.tolerance:
        if not 0 < tolerance < 1:
            raise ValueError(f"--tolerance: expected numbers in (0, 1), got {tolerance}; the exact walk runs anyway")
    return [ours(isa, tolerance) for tolerance in (0.0, *options.tolerance) for isa in isas] + torch_walks()


def _limits(options: argparse.Namespace) -> Limits:
    from ..benchmark import Limits

    memory = {} if options.memory is None else {"memory": options.memory * 2**30}
    return Limits(seconds=options.seconds, rounds=options.rounds, measure_memory=not options.no_memory, **memory)


def _cases(options: argparse.Namespace) -> list[Case]:
    from ..benchmark import Case, map_shape

    settings = {name: getattr(options, name) for name in ("alpha", "steps", "temperature", "seed")}
    if options.embeddings:
        if options.channels is not None:
            raise ValueError("--channels: the files of --embeddings have their own; leave it out")
        enlarged = None if options.enlarge is None else tuple(options.enlarge)
        return [
            Case.of_file(path, enlarged, value_channels=channels, **settings)
            for path in options.embeddings
            for channels in options.value_channels
        ]
    if options.enlarge is not None:
        raise ValueError("--enlarge: only files of --embeddings are enlarged; give a synthetic map its size by --shape")
    shapes = [tuple(options.shape)] if options.shape else [map_shape(pixels) for pixels in options.pixels or [4096]]
    if options.channels is not None:
        settings["channels"] = options.channels
    return [
        Case(*shape, value_channels=channels, **settings) for shape in shapes for channels in options.value_channels
    ]
