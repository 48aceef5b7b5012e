"""The sub-command ``benchmark``."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.extras import require_extras
from ..io.files import make_folder_of, write_json
from ..io.outputs import check_outputs
from ..io.progress import progress
from .export import export_name
from .loading import load_scorer
from .options import add_network_options, add_walk_options

if TYPE_CHECKING:
    import numpy as np

    from ..benchmark.formats import Format, Program
    from ..deploy.runners import Runner

SUMMARY = "Time a network with its walk and score over the formats it runs in: eager, compiled, pt2, C++, ONNX."

FORMATS = ("eager", "compile", "pt2", "pt2-cpp", "onnx", "pure")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--exports", type=Path, metavar="DIR", help="folder of rwpm-fast export, for the other formats")
    parser.add_argument(
        "--formats", nargs="+", metavar="FORMAT", default=list(FORMATS), help=f"of {', '.join(FORMATS)} (default: all)"
    )
    parser.add_argument("--photo", type=Path, help="photo to run on (default: a rendered street)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the rendered one (default: 720 1280)")
    parser.add_argument("--score", help="anomaly score (default: that of the network's authors)")
    parser.add_argument("--rounds", type=int, default=10, help="calls of each after its first (default: %(default)s)")
    parser.add_argument(
        "--program", type=Path, metavar="FILE", help="rwpm-score, for pt2-cpp (default: that in the search path)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to FILE")
    add_network_options(parser, positional=True, sized=False)
    add_walk_options(parser)
    parser.set_defaults(method=None)


def run(options: argparse.Namespace) -> int:
    for name in options.formats:
        if name not in FORMATS:
            raise ValueError(f"--formats: expected some of {', '.join(FORMATS)}, got {name}")
    if options.rounds < 1:
        raise ValueError(f"--rounds: expected 1 or more, got {options.rounds}")
    if options.photo is not None and options.size is not None:
        raise ValueError("--size: of the rendered photo; give it or --photo")
    if options.json is not None:
        check_outputs([("--json", options.json)], [options.photo, options.weights], "give another file")
        make_folder_of(options.json, "--json")
    require_extras("benchmark", "PIL.Image")

    import torch

    from ..benchmark import machine
    from ..benchmark.formats import formats_table, time_formats

    photo = _photo(options)
    load_scorer(options, options.score)  # its errors are told before any process is started; sets the threads
    threads = options.threads = torch.get_num_threads()
    rounds = iter(progress(range(options.rounds), "benchmark"))
    chosen = [_format(name, options) for name in FORMATS if name in ("eager", *options.formats)]
    results = time_formats(
        chosen, photo, rounds=options.rounds, threads=threads, on_round=lambda done: next(rounds, None)
    )
    height, width = photo.shape[:2]
    print(
        f"{options.network} at {width}x{height}, {threads} threads, {options.rounds} rounds, {machine.info.processor()}"
    )
    print(formats_table(results))
    if options.json is not None:
        record = {
            "network": options.network,
            "size": [height, width],
            "threads": threads,
            "commit": machine.commit(),
            "machine": machine.facts(),
            "formats": [{**asdict(result), "median": result.median(), "p95": result.p95()} for result in results],
        }
        write_json(options.json, record)
    failed = [
        result
        for result, format_ in zip(results, chosen, strict=True)
        if result.reason is not None and format_.missing is None
    ]
    for result in failed:
        print(f"{result.name}: {result.reason}", file=sys.stderr)
    return 1 if failed else 0


def _photo(options: argparse.Namespace) -> np.ndarray:
    import numpy as np

    from ..io.images import read_image
    from ..scenes import render_scene

    if options.photo is not None:
        return read_image(options.photo, upright=True)
    return render_scene(np.random.default_rng(0), tuple(options.size or (720, 1280)))[0]


def _format(name: str, options: argparse.Namespace) -> Format | Program:
    from ..benchmark.formats import Format, Program
    from ..deploy.export import TOLERANCES
    from ..deploy.runners import open_runner
    from ..ops.library import LIBRARY

    if name in ("eager", "compile"):
        return Format(name, partial(_open_scorer, options, compiled=name == "compile"))
    kind = "pt2" if name == "pt2-cpp" else name
    flags = {"pt2": "--format pt2", "onnx": "--format onnx", "pure": "--format onnx --pure"}[kind]
    file = export_name(options.network, kind)
    missing = None
    if options.exports is None or not (options.exports / file).exists():
        folder = options.exports or "DIR, and give --exports DIR"
        missing = f"no {file}; make it by rwpm-fast export {options.network} {flags} --out {folder}"
    path = (options.exports or Path()) / file
    if name != "pt2-cpp":
        threads = options.threads
        open_file = partial(open_runner, path, threads=threads)
        # Of plain ONNX more than its export allowed: its walk is exact, where eager's drops what the tolerance allows.
        return Format(name, open_file, {**TOLERANCES, "pure": 1e-3}[name], missing, walks=name != "pure")
    program = options.program or shutil.which("rwpm-score")
    if options.program is not None and not options.program.is_file():
        raise FileNotFoundError(f"--program: no such file: {options.program}")
    if program is None and missing is None:
        missing = "no rwpm-score in the search path; build it by cmake, and give --program FILE"
    return Program(name, Path(program or "rwpm-score"), path, LIBRARY, missing=missing)


def _open_scorer(options: argparse.Namespace, *, compiled: bool) -> Runner:
    from ..deploy.runners import CompiledRunner, EagerRunner

    scorer = load_scorer(options, options.score)
    return CompiledRunner(scorer) if compiled else EagerRunner(scorer)
