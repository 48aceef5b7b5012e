"""The sub-command ``info``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace

from ..io.arguments import non_default_options
from ..io.markdown import markdown_table
from ..ops.settings import DEFAULTS
from .options import add_threads_option

SUMMARY = (
    "Print versions, compiler, instruction sets, threads, and what can be used here or why not, or estimate a walk."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")
    group = parser.add_argument_group("estimate")
    group.add_argument(
        "--estimate",
        type=_map_size,
        metavar="HxWxD",
        help="instead of facts: the time, memory and path of a walk on embeddings [D, H, W] on this machine's CPU",
    )
    group.add_argument(
        "--value-channels", type=_count, default=19, metavar="C", help="that are walked (default: %(default)s)"
    )
    group.add_argument("--steps", type=int, default=DEFAULTS.steps, metavar="T", help="(default: %(default)s)")
    add_threads_option(group)


def run(options: argparse.Namespace) -> int:
    if options.estimate is not None:
        return _estimate(options)
    if alone := set(non_default_options(options, add_arguments)) - {"json"}:
        raise ValueError(f"--{min(alone).replace('_', '-')}: expected --estimate HxWxD with it, got it alone")
    from ..info import info

    facts = info()
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return 0


def _estimate(options: argparse.Namespace) -> int:
    """Print what an exact walk and one with a tolerance are expected to take."""
    import torch

    from ..ops.estimate import estimate_walk
    from ..scoring.device import set_threads

    set_threads(options.threads, "--threads")
    height, width, channels = options.estimate
    walk = (height, width), channels, options.value_channels
    settings = replace(DEFAULTS, steps=options.steps)  # the model is that of any tolerance
    exact, _ = estimate_walk(*walk, replace(settings, tolerance=0.0), torch.device("cpu"))
    estimates = estimate_walk(*walk, settings, torch.device("cpu"))
    threads = torch.get_num_threads()
    if options.json:
        sizes = {"height": height, "width": width, "channels": channels, "value_channels": options.value_channels}
        tolerant = dict(zip(("least", "most"), map(asdict, estimates), strict=True))
        record = sizes | {"steps": options.steps, "threads": threads, "exact": asdict(exact), "tolerance": tolerant}
        print(json.dumps(record, indent=2))
        return 0
    print(
        f"walk of {height}x{width} = {height * width} pixels, {channels} channels, {options.value_channels} value "
        f"channels, {options.steps} steps, {threads} threads\n"
    )
    walks = ("exact", exact), ("with a tolerance, at least", estimates[0]), ("with a tolerance, at most", estimates[1])
    rows: list[list[str]] = [
        [name, found.path, f"{found.density:.2%}", f"{found.seconds:.3g}", f"{found.bytes / 2**20:.0f}"]
        for name, found in walks
    ]
    print(markdown_table(["walk", "path", "of the pairs kept", "seconds", "MiB beyond the inputs"], rows))
    return 0


def _map_size(text: str) -> tuple[int, int, int]:
    sizes = text.lower().split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(
            f"expected height x width x channels of the embeddings, such as 184x320x256, got {text!r}"
        )
    height, width, channels = map(int, sizes)
    return height, width, channels


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more channels, got {text!r}")
    return int(text)
