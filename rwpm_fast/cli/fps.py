"""Frames a second of the walk on the paper's maps, on a GPU or any torch device, beside what one would run instead."""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.files import make_folder_of, write_json
from ..ops.settings import DEFAULTS
from .options import add_threads_option, given, set_threads, torch_device

if TYPE_CHECKING:
    from ..benchmark.fps import Frame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("maps")
    group.add_argument(
        "--paper", action="store_true", help="every map, n, width and T of the paper, one after the other"
    )
    group.add_argument("--shape", type=int, nargs=2, metavar=("H", "W"), help="of the map (default: 184 320)")
    group.add_argument("--parts", type=int, nargs="+", metavar="N", help="sub-maps N x N (default: 1 2 4 8)")
    group.add_argument("--channels", type=int, metavar="D", help="of synthetic embeddings (default: 256)")
    group.add_argument("--value-channels", type=int, nargs="+", metavar="C", help="that are walked (default: 256)")
    group.add_argument(
        "--embeddings", type=Path, nargs="+", metavar="NPZ", help="embedding [D, H, W], enlarged bilinearly to --shape"
    )
    group.add_argument(
        "--dtype", nargs="+", metavar="DTYPE", default=["float16"], help="float16, float32 (default: float16)"
    )
    group.add_argument("--seed", type=int, default=0, help="of synthetic maps and of values (default: %(default)s)")

    group = parser.add_argument_group("walk")
    group.add_argument(
        "--alpha", type=float, default=DEFAULTS.alpha, help="probability to go on (default: %(default)s)"
    )
    group.add_argument("--steps", type=int, nargs="+", metavar="T", help="transitions (default: 20)")
    group.add_argument(
        "--temperature", type=float, default=DEFAULTS.temperature, help="softmax temperature (default: %(default)s)"
    )

    group = parser.add_argument_group("contenders")
    group.add_argument("--device", help="torch device (default: cuda where there is one, else cpu)")
    group.add_argument(
        "--tolerance", type=float, nargs="*", default=[1e-3, 1e-4], help="of our walk (default: 1e-3 1e-4)"
    )
    group.add_argument("--contenders", nargs="+", metavar="PATTERN", help="only those whose keys match, as 'exact-*'")
    group.add_argument("--list", action="store_true", help="print the contenders' keys and run nothing")
    group.add_argument("--network-ms", type=float, default=0, metavar="MS", help="a network's time, for FPS with it")
    add_threads_option(group)

    group = parser.add_argument_group("limits")
    group.add_argument("--rounds", type=int, default=3, help="turns of each contender (default: %(default)s)")
    group.add_argument("--seconds", type=float, default=30, help="leave out what a run takes (default: %(default)s)")
    group.add_argument(
        "--memory", type=float, metavar="GIB", help="leave out what takes it (default: the device's free)"
    )
    group.add_argument("--no-memory", action="store_true", help="do not measure peak memory, which costs a run each")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep float64 references there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to FILE")


def bench(options: argparse.Namespace, program: str, cache: Path | None = None) -> int:
    """Run what the options say, print the tables and write the record.

    Returns:
        0; 1 when a contender failed or did not do what its contract says.
    """
    from ..benchmark import chosen, compare, succeeded
    from ..benchmark.fps import Device, markdown, record, walkers
    from ..benchmark.runner import Limits

    # All that a user may have got wrong comes before any work.
    set_threads(options.threads)
    for tolerance in options.tolerance:
        if not 0 < tolerance < 1:
            raise ValueError(f"--tolerance: expected numbers in (0, 1), got {tolerance}; the exact walk runs anyway")
    if options.network_ms < 0:
        raise ValueError(f"--network-ms: expected milliseconds, 0 or more, got {options.network_ms:g}")
    device = Device(_device(options.device))
    frames = _frames(options, str(device.device))
    if options.list:
        entrants = chosen(walkers(frames[0], options.tolerance), options.contenders or ["*"])
        width = max(len(c.key) for c in entrants)
        print("\n".join(f"{c.key:<{width}}  {c.label}" for c in entrants))
        return 0
    memory = device.free_memory() if options.memory is None else options.memory * 2**30
    limits = Limits(seconds=options.seconds, memory=memory, rounds=options.rounds, measure_memory=not options.no_memory)
    entrants = [chosen(walkers(frame, options.tolerance), options.contenders) for frame in frames]
    if options.json:
        make_folder_of(options.json, "--json")

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    settings = {"cache": options.cache or cache, "note": note, "stage": device}
    compared = [compare(frame, who, limits, **settings) for frame, who in zip(frames, entrants, strict=True)]
    words = given(argparse.Namespace(**{**vars(options), "json": None, "cache": None}), add_arguments)
    made = record(compared, shlex.join([*program.split(), *words]), limits, device, options.network_ms)
    print(markdown(made), end="")
    if options.json:
        write_json(options.json, made)
    return 0 if succeeded(made) else 1


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(torch_device(name))


def _frames(options: argparse.Namespace, device: str) -> list[Frame]:
    from ..benchmark.fps import Frame, paper_frames

    settings = {name: getattr(options, name) for name in ("alpha", "temperature", "seed")} | {"device": device}
    if options.channels is not None:
        settings["channels"] = options.channels
    if options.paper:
        for name in ("shape", "parts", "value_channels", "steps", "embeddings"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')}: --paper sets it; leave one of them out")
        return [frame for dtype in options.dtype for frame in paper_frames(**settings, dtype=dtype)]
    if options.embeddings and options.channels is not None:
        raise ValueError("--channels: the files of --embeddings have their own; leave it out")
    shape = tuple(options.shape or (184, 320))
    sources = [partial(Frame.of_file, path, shape) for path in options.embeddings or []] or [partial(Frame, *shape)]
    return [
        make(**settings, parts=parts, value_channels=channels, steps=steps, dtype=dtype)
        for make in sources
        for dtype in options.dtype
        for parts in options.parts or [1, 2, 4, 8]
        for channels in options.value_channels or [256]
        for steps in options.steps or [20]
    ]
