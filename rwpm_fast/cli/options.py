"""Options that several sub-commands share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def add_walk_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("walk")
    group.add_argument(
        "--alpha", type=float, default=0.99, help="probability to go on, in [0, 1] (default: %(default)s)"
    )
    group.add_argument("--steps", type=int, default=20, help="number of transitions (default: %(default)s)")
    group.add_argument("--temperature", type=float, default=0.01, help="softmax temperature (default: %(default)s)")
    group.add_argument("--parts", type=int, default=1, help="cut the map into N x N sub-maps (default: uncut)")
    group.add_argument("--calibrate", action="store_true", help="calibrate scores across the sub-maps")
    # AP, AuROC and FPR95 of DABNet on RoadAnomaly are the exact walk's to four digits, in a sixteenth of the time.
    group.add_argument(
        "--tolerance", type=float, default=1e-4, help="mass a row may drop, 0: exact (default: %(default)s)"
    )


def walk_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("alpha", "steps", "temperature", "parts", "tolerance")
    return {name: getattr(options, name) for name in names}


def add_network_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--network", default="dabnet", help="which network (default: %(default)s)")
    group.add_argument("--weights", type=Path, required=required, help="file with the network's weights")
    group.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    add_threads_option(group)


def add_threads_option(group) -> None:
    group.add_argument("--threads", type=int, help="threads to use (default: torch's)")


def set_threads(threads: int | None) -> None:
    """Have torch use so many threads; None leaves its own number."""
    import torch

    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"--threads: expected 1 or more, got {threads}")
    torch.set_num_threads(threads)


def load_scorer(options: argparse.Namespace, score: str = "energy"):
    """The scorer that the options describe; its walk is None with ``--no-walk``."""
    import torch

    from .. import networks
    from ..maps import Walk
    from ..scorer import Scorer

    set_threads(options.threads)
    try:
        device = torch.empty(0, device=options.device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: {options.device!r} cannot be used: {str(error).splitlines()[0]}") from error
    walk = Walk(**walk_settings(options))
    network = networks.load(options.network, options.weights).to(device)
    return Scorer(network, score, walk, calibrated=options.calibrate)


def given(options: argparse.Namespace, add_arguments: Callable[[argparse.ArgumentParser], None]) -> list[str]:
    """The options that differ from their defaults, as typed; ``add_arguments`` made them."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = []
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        if value is None or value == action.default:
            continue
        words.append(action.option_strings[0])
        if value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return words


def progress(items: Iterable, what: str) -> Iterable:
    """A progress bar when someone watches a terminal, nothing otherwise."""
    from tqdm import tqdm

    return tqdm(items, desc=what, unit="photo", disable=not sys.stderr.isatty(), leave=False)


def say(text: str) -> None:
    """A line that does not tear a progress bar."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)


def write_json(path: Path, content: Any) -> None:
    from ..images import write_whole

    text = json.dumps(content, indent=2, allow_nan=True) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))
