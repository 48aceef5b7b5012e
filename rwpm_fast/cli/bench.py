"""The sub-command ``bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.arguments import non_default_args
from ..io.files import make_folder_of, write_json
from ..io.outputs import check_outputs
from ..ops.settings import OPERATOR_DEFAULTS, WalkSettings
from .options import add_threads_option

if TYPE_CHECKING:
    from ..benchmark import Case, Contender, FilterResult


@dataclass(frozen=True)
class Suite:
    """A set of contenders with the maps that they get where the options name none.

    Args:
        kind: of its records.
        summary: what it is for, in a line.
        shape: height and width of its maps, also of those from files; None for a square of 4096 pixels, and for files
            as they are.
        parts: sub-maps n x n.
        value_channels: C.
        dtype: of embeddings and values.
        smooth: its synthetic embeddings are as smooth as a network's.
    """

    kind: str
    summary: str
    shape: tuple[int, int] | None
    parts: tuple[int, ...]
    value_channels: int
    dtype: str
    smooth: bool


SUMMARY = "Time the walk and dense torch on maps of your size, each result checked against float64 first."
WALK = Suite("walk", SUMMARY, None, (1,), 19, "float32", smooth=False)
FPS = Suite(
    "fps",
    "Frames a second of the walk, and of what one would run instead, on the paper's maps and any torch device.",
    (184, 320),
    (1, 2, 4, 8),
    256,
    "float16",
    smooth=True,
)


def add_arguments(parser: argparse.ArgumentParser, suite: Suite = WALK) -> None:
    fps = suite is FPS
    group = parser.add_argument_group("maps")
    group.add_argument(
        "--paper", action="store_true", help="every map, n, width and T of the paper, one after the other"
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument("--pixels", type=int, nargs="+", metavar="N", help="synthetic maps of N pixels")
    default = "184 320" if fps else "4096 pixels"
    size.add_argument("--shape", type=int, nargs=2, metavar=("H", "W"), help=f"a map of H x W (default: {default})")
    group.add_argument("--embeddings", type=Path, nargs="+", metavar="NPZ", help="maps from files: embedding [D, H, W]")
    group.add_argument("--enlarge", type=int, nargs=2, metavar=("H", "W"), help="bilinear size of those files")
    default = " ".join(map(str, suite.parts))
    group.add_argument("--parts", type=int, nargs="+", metavar="N", help=f"sub-maps N x N (default: {default})")
    group.add_argument("--channels", type=int, metavar="D", help="of synthetic embeddings (default: 256)")
    default = str(suite.value_channels)
    group.add_argument("--value-channels", type=int, nargs="+", metavar="C", help=f"(default: {default})")
    group.add_argument("--dtype", nargs="+", metavar="DTYPE", help=f"float16, float32 (default: {suite.dtype})")
    group.add_argument("--seed", type=int, default=0, help="of synthetic maps and of values (default: %(default)s)")

    group = parser.add_argument_group("walk")
    group.add_argument(
        "--alpha", type=float, default=OPERATOR_DEFAULTS.alpha, help="probability to go on (default: %(default)s)"
    )
    group.add_argument(
        "--steps", type=int, nargs="+", metavar="T", help=f"number of transitions (default: {OPERATOR_DEFAULTS.steps})"
    )
    group.add_argument(
        "--temperature",
        type=float,
        default=OPERATOR_DEFAULTS.temperature,
        help="softmax temperature (default: %(default)s)",
    )

    group = parser.add_argument_group("contenders")
    default = "cuda where there is one, else cpu" if fps else "cpu"
    group.add_argument("--device", help=f"torch device (default: {default})")
    group.add_argument(
        "--tolerance", type=float, nargs="*", default=[1e-3, 1e-4], help="of our walk (default: 1e-3 1e-4)"
    )
    if not fps:
        group.add_argument("--isa", nargs="+", help="instruction sets of our walk on the CPU")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--contenders", nargs="+", metavar="PATTERN", help="only those whose keys match, as 'exact-*'")
    if not fps:
        which.add_argument(
            "--filter", action="store_true", help="no walks: the filter of ours alone, against its instructions' peak"
        )
    group.add_argument("--list", action="store_true", help="print the contenders' keys and run nothing")
    if fps:
        group.add_argument(
            "--network-ms", type=float, default=0, metavar="MS", help="a network's time, for FPS with it"
        )
    add_threads_option(group)

    group = parser.add_argument_group("limits")
    group.add_argument("--rounds", type=int, default=3, help="runs of each contender, in turn (default: %(default)s)")
    group.add_argument("--seconds", type=float, default=30, help="leave out what a run takes (default: %(default)s)")
    group.add_argument(
        "--memory", type=float, metavar="GIB", help="leave out what takes it (default: half the free; of a GPU 0.9)"
    )
    group.add_argument("--no-memory", action="store_true", help="do not measure peak memory, which costs a run each")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep float64 references there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to FILE")
    if not fps:
        kinds = parser.add_subparsers(dest="kind", metavar="fps")
        add_arguments(kinds.add_parser("fps", help=FPS.summary, description=FPS.summary), FPS)


def run(options: argparse.Namespace) -> int:
    from ..benchmark import chosen_isa

    return bench(options, "rwpm-fast bench", default_isas=[chosen_isa()])


def bench(
    options: argparse.Namespace,
    program: str,
    *,
    default_isas: list[str],
    peers: list[Contender] | None = None,
    cache: Path | None = None,
) -> int:
    """Run what the options say, print the tables and write the record.

    Args:
        options: what :func:`add_arguments` defined.
        program: the command, for the record.
        default_isas: instruction sets where the options name none.
        peers: contenders on the CPU, in addition to ours and torch's.
        cache: folder for float64 references, where the options name none.

    Returns:
        0; 1 when a contender failed or did not do what its contract says.
    """
    from .. import native
    from ..benchmark import UNITS, Limits, Record, compare, markdown, open_device, time_filter
    from ..scoring.device import set_threads

    # All that a user may have got wrong comes before any work.
    suite = FPS if options.kind == "fps" else WALK
    set_threads(options.threads, "--threads")
    for tolerance in options.tolerance:
        if not 0 < tolerance < 1:
            raise ValueError(f"--tolerance: expected numbers in (0, 1), got {tolerance}; the exact walk runs anyway")
    network_ms = options.network_ms if suite is FPS else 0
    if network_ms < 0:
        raise ValueError(f"--network-ms: expected milliseconds, 0 or more, got {network_ms:g}")
    device = open_device(_device(options.device, suite))
    isas = [] if suite is FPS or device.is_cuda else _isas(options, default_isas)
    if suite is WALK and device.is_cuda and (options.isa or options.filter):
        raise ValueError(f"--isa, --filter: they are for the CPU; leave them out, or --device {options.device}")
    cases = _cases(options, suite, device.name)
    entries = [_chosen(options, suite, case, isas, peers or []) for case in cases]
    if options.list:
        width = max(len(c.key) for c in entries[0])
        print("\n".join(f"{c.key:<{width}}  {c.label}" for c in entries[0]))
        return 0
    filters = suite is WALK and options.filter
    if filters and native.unsupported_reason() is not None:
        raise ValueError(f"--filter: needs the compiled kernels: {native.unsupported_reason()}")
    memory = device.free_memory() if options.memory is None else options.memory * 2**30
    limits = Limits(seconds=options.seconds, memory=memory, rounds=options.rounds, measure_memory=not options.no_memory)
    if options.json:
        check_outputs([("--json", options.json)], options.embeddings or [], "give another file")
        make_folder_of(options.json, "--json")

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    compared, filtered = [], []
    if filters:
        filtered = _filtered(cases, partial(time_filter, isas=isas, rounds=limits.rounds, note=note))
    else:
        time_walks = partial(
            compare, limits=limits, device=device, unit=UNITS[suite.kind], cache=options.cache or cache, note=note
        )
        compared = [time_walks(case, chosen) for case, chosen in zip(cases, entries, strict=True)]
    record = Record(
        command=_command(options, program, suite),
        machine=device.facts(),
        **limits.to_json(),
        cases=tuple(compared),
        filters=tuple(filtered),
        kind=suite.kind,
        network_ms=network_ms,
    )
    if options.json:
        write_json(options.json, record.to_json())
    print(markdown(record), end="")
    return 0 if record.sound else 1


def _device(name: str | None, suite: Suite) -> str:
    import torch

    from ..scoring.device import torch_device

    if name is None:
        return "cuda" if suite is FPS and torch.cuda.is_available() else "cpu"
    return str(torch_device(name, "--device"))


def _isas(options: argparse.Namespace, default_isas: list[str]) -> list[str]:
    from ..benchmark import isas

    available = isas()
    for isa in options.isa or []:
        if isa not in available:
            names = ", ".join(available) if available != ["torch"] else "none, since plain torch serves"
            raise ValueError(f"--isa: expected instruction sets of {names}, got {isa!r}")
    return options.isa or default_isas


def _chosen(
    options: argparse.Namespace, suite: Suite, case: Case, isas: list[str], peers: list[Contender]
) -> list[Contender]:
    """The contenders of a case; of a list those too that have to be named."""
    from ..benchmark import chosen, fps_entries, walk_entries

    if suite is FPS:
        entries = fps_entries(case, options.tolerance)
    elif isas:
        entries = walk_entries(case, options.tolerance, isas) + peers
    else:
        entries = walk_entries(case, options.tolerance)
    return chosen(entries, options.contenders or (["*"] if options.list else None))


def _cases(options: argparse.Namespace, suite: Suite, device: str) -> list[Case]:
    from ..benchmark import Case, map_shape, paper_cases

    walk = partial(WalkSettings, alpha=options.alpha, temperature=options.temperature)
    facts = {"seed": options.seed, "smooth": suite.smooth, "device": device}
    if options.channels is not None:
        facts["channels"] = options.channels
    dtypes = options.dtype or [suite.dtype]
    if options.paper:
        for name in ("pixels", "shape", "parts", "value_channels", "steps", "embeddings", "enlarge"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')}: --paper sets it; leave one of them out")
        return [case for dtype in dtypes for case in paper_cases(**facts, settings=walk(), dtype=dtype)]
    if options.embeddings and options.channels is not None:
        raise ValueError("--channels: the files of --embeddings have their own; leave it out")
    if options.embeddings and options.pixels:
        raise ValueError("--pixels: the files of --embeddings have their own; leave it out, or take --enlarge")
    if options.enlarge and not options.embeddings:
        raise ValueError("--enlarge: only files of --embeddings are enlarged; give a synthetic map its size by --shape")
    if options.enlarge and options.shape:
        raise ValueError("--enlarge: --shape sets it; leave one of them out")
    shape = options.enlarge or options.shape or suite.shape
    shape = None if shape is None else tuple(shape)
    if options.embeddings:
        sources = [partial(Case.from_file, path, shape) for path in options.embeddings]
    else:
        shapes = [map_shape(n) for n in options.pixels] if options.pixels else [shape or map_shape(4096)]
        sources = [partial(Case, *shape) for shape in shapes]
    return [
        make(**facts, settings=walk(parts=parts, steps=steps), value_channels=channels, dtype=dtype)
        for make in sources
        for dtype in dtypes
        for parts in options.parts or suite.parts
        for channels in options.value_channels or [suite.value_channels]
        for steps in options.steps or [OPERATOR_DEFAULTS.steps]
    ]


def _filtered(cases: list[Case], time_filter: Callable[[Case], list[FilterResult]]) -> list[FilterResult]:
    """The filter on every map once, whatever walks there."""
    maps = dict.fromkeys(replace(case, value_channels=1, settings=OPERATOR_DEFAULTS, dtype="float32") for case in cases)
    return [row for map_ in maps for row in time_filter(map_)]


def _command(options: argparse.Namespace, program: str, suite: Suite) -> str:
    """What was typed, but for where results are written."""
    from ..benchmark.record import shareable

    words = argparse.Namespace(**{**vars(options), "json": None, "cache": None})
    program = f"{program} fps" if suite is FPS else program
    return shareable([*program.split(), *non_default_args(words, partial(add_arguments, suite=suite))])
