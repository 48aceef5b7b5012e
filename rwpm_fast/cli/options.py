"""Options that several sub-commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..ops.settings import DEFAULTS

# Default and help. With the tolerance, DABNet's AP, AuROC and FPR95 on RoadAnomaly are those of the exact walk to four
# digits, in a sixteenth of the time.
WALK_SETTINGS = {
    "alpha": (DEFAULTS.alpha, "probability to go on, in [0, 1]"),
    "steps": (DEFAULTS.steps, "number of transitions"),
    "temperature": (DEFAULTS.temperature, "softmax temperature"),
    "parts": (DEFAULTS.parts, "cut the map into N x N sub-maps, 1: uncut"),
    "tolerance": (1e-4, "mass a row may drop, 0: exact"),
}


def add_walk_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("walk")
    for name, (default, meaning) in WALK_SETTINGS.items():
        group.add_argument(f"--{name}", type=type(default), help=f"{meaning} (default: {default})")
    group.add_argument("--calibrate", action="store_true", help="calibrate scores across the sub-maps")
    group.add_argument(
        "--walk-values",
        default="auto",
        metavar="WHAT",
        help="what walks: embeddings; logits, of a linear head; masks, the final ones of a mask network "
        "(default: %(default)s, as published)",
    )
    group.add_argument(
        "--no-walk-padding",
        dest="walk_padding",
        action="store_false",
        help="leave out pixels of the map that show nothing but padding (default: they walk, as published)",
    )


def given_walk_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the walk that were typed."""
    return {name: value for name in WALK_SETTINGS if (value := getattr(options, name)) is not None}


def walk_settings(options: argparse.Namespace) -> dict[str, Any]:
    """All settings of the walk."""
    return {name: default for name, (default, _) in WALK_SETTINGS.items()} | given_walk_settings(options)


def scorer_settings(options: argparse.Namespace) -> dict[str, Any]:
    """How a scorer walks, beside the walk's own settings."""
    return {
        "walk_values": options.walk_values,
        "calibrated": options.calibrate,
        "walk_padding": options.walk_padding,
    }


def add_network_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--network", default="compact", help="which network (default: compact)")
    group.add_argument(
        "--weights",
        type=Path,
        help="file with the network's weights, or a folder of transformers (default: the compact network's own)",
    )
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


def load_network(options: argparse.Namespace, name: str | None = None, weights: Path | None = None):
    """A network, the one that the options describe where none is named, on their device, with threads set."""
    from .. import networks

    set_threads(options.threads)
    device = torch_device(options.device)
    which = (options.network, options.weights) if name is None else (name, weights)
    return networks.load(*which).to(device)


def torch_device(name: str):
    """The torch device of that name.

    Raises:
        ValueError: there is none, or it cannot be used here.
    """
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def load_scorer(options: argparse.Namespace, score: str | None = None):
    """The scorer that the options describe."""
    from ..ops.maps import Walk
    from ..scoring.scorer import Scorer

    walk = Walk(**walk_settings(options))
    return Scorer(load_network(options), score, walk, **scorer_settings(options))


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
        if not isinstance(value, bool):
            words += map(str, value if isinstance(value, list) else [value])
    return words
