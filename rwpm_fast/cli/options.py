"""Options that several sub-commands share, and the settings that they make."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..ops.settings import DEFAULTS
from ..presets import ANCHOR_SHARE

WALK_OPTIONS = {
    "alpha": "continuing probability, in [0, 1]",
    "steps": "number of transitions",
    "temperature": "softmax temperature",
    "parts": "cut the map into N x N sub-maps, 1: uncut",
    "tolerance": "mass that a row may drop, 0: exact",
    "anchor": "cosine of a pixel with its own value, kept where it resembles no other; -1: the published walk",
    "anchor_share": "share of the pixels to anchor, in place of --anchor; 0: the published walk",
}

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def check_figure_file(file: Path, option: str) -> None:
    """Raise ValueError unless a figure can be written in the format that the file's suffix names."""
    if file.suffix.lower() not in FIGURE_SUFFIXES:
        raise ValueError(f"{option}: expected a file {' or '.join(FIGURE_SUFFIXES)}, got {file}")


def add_walk_options(parser: argparse.ArgumentParser) -> None:
    """Add the settings of the walk, and what walks."""
    group = parser.add_argument_group("walk")
    for name, meaning in WALK_OPTIONS.items():
        default = getattr(DEFAULTS, name)
        shown = f"the network's, {ANCHOR_SHARE} for compact, else 0" if name == "anchor_share" else default
        group.add_argument(f"--{name.replace('_', '-')}", type=type(default), help=f"{meaning} (default: {shown})")
    group.add_argument("--calibrate", action="store_true", help="calibrate scores across the sub-maps")
    group.add_argument(
        "--walk-values",
        metavar="WHAT",
        help="what walks: embeddings; logits, of a linear head; masks, the final ones of a mask network; none; score, "
        "that of --method (default: auto, as published; of a --method none, as published)",
    )
    group.add_argument(
        "--no-walk-padding",
        dest="walk_padding",
        action="store_false",
        help="leave out pixels of the map that show nothing but padding (default: they walk, as published)",
    )


def walk_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the walk that were given."""
    return {name: value for name in WALK_OPTIONS if (value := getattr(options, name)) is not None}


def add_method_options(parser: argparse.ArgumentParser, *, named: bool = True) -> None:
    """Add the method of scoring, and the files of its parts.

    Args:
        parser: to add them to.
        named: add ``--method`` too; not where the parser has a METHOD of its own.
    """
    group = parser.add_argument_group("SynBoost")
    if named:
        group.add_argument(
            "--method", help="synboost or resynthesis: the score of its chain (default: a score of the network)"
        )
    # In the order of rwpm_fast.synboost.methods.FILES, which needs torch.
    group.add_argument(
        "--trained",
        type=Path,
        metavar="DIR",
        help="folder of rwpm-fast train, for its networks and ensemble; give the --network, and the files of others, "
        "that it was made with (default: the package's own set)",
    )
    for name, what in (
        ("dissimilarity", "the dissimilarity network"),
        ("generator", "CC-FPSE's generator"),
        ("image-encoder", "CC-FPSE's image encoder"),
        ("vgg19", "VGG19, for synboost only"),
    ):
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"{what} (default: the package's own set)")


def method_files(options: argparse.Namespace) -> dict[str, Path]:
    """Return the files of the method's parts that were given, by name in ``rwpm_fast.synboost.methods.FILES``."""
    from ..synboost.methods import FILES

    return {name: file for name in FILES if (file := getattr(options, name, None)) is not None}


def scorer_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a scorer other than network, score and walk; values are "auto" where nothing walks."""
    return {
        "walk_values": "auto" if options.walk_values in (None, "none") else options.walk_values,
        "calibrated": options.calibrate,
        "walk_padding": options.walk_padding,
    }


def add_network_options(
    parser: argparse.ArgumentParser, *, positional: bool = False, device: bool = True, sized: bool = True
) -> None:
    """Add the network, its weights, settings and device, and the number of threads.

    Args:
        parser: to add them to.
        positional: the network is an argument of its own, not the option ``--network``.
        device: add ``--device`` too; not for what runs on the CPU alone.
        sized: add ``--size`` too; not where the parser has a SIZE of its own.
    """
    group = parser.add_argument_group("network")
    which = "which network; or what builds one of yours, my.module:build or file.py:build"
    if positional:
        parser.add_argument("network", metavar="NETWORK", help=f"{which}, such as compact")
    else:
        group.add_argument("--network", default="compact", help=f"{which} (default: compact)")
    group.add_argument(
        "--weights",
        type=Path,
        help="file with the network's weights, or a folder of transformers (default: the compact network's own)",
    )
    group.add_argument(
        "--weights-key",
        metavar="KEY",
        help="place of the weights in their file, such as ema or checkpoint/model, where several fit",
    )
    _add_network_settings(group, sized=sized)
    parser.set_defaults(of_network=[*NETWORK_SETTINGS, *(["size"] if sized else [])])
    if device:
        group.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    add_threads_option(group)


NETWORK_SETTINGS = ("embedding", "head", "mean", "std", "leave_out")


def _add_network_settings(group: argparse._ArgumentGroup, *, sized: bool) -> None:
    group.add_argument("--embedding", metavar="PATH", help="of a torch module of yours: the module that gives the map")
    group.add_argument("--head", metavar="PATH", help="of a torch module of yours: the module that makes logits of it")
    for name, what in (("mean", "subtracted"), ("std", "to divide by")):
        group.add_argument(
            f"--{name}",
            type=float,
            nargs=3,
            metavar=("R", "G", "B"),
            help=f"of a torch module of yours: colors in 0..1, {what} (default: ImageNet's)",
        )
    if sized:
        group.add_argument(
            "--size", type=int, nargs=2, metavar=("H", "W"), help="resize photos to this (default: the network's rule)"
        )
    group.add_argument(
        "--leave-out", nargs="+", metavar="CLASS", help="classes, by name or number, that no score reads, such as void"
    )


def network_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the network that were given, for :func:`rwpm_fast.networks.load`."""
    return {name: value for name in options.of_network if (value := getattr(options, name)) is not None}


def add_threads_option(group: argparse._ActionsContainer) -> None:
    """Add the number of threads to a parser or group."""
    group.add_argument("--threads", type=int, help="threads to use (default: torch's)")


class Renamed(argparse.Action):
    """An option under its old name: it works as the new one, whose ``dest`` it shares, with a warning."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Warn and set the new option."""
        warn_renamed(f"{option_string}", f"--{self.dest.replace('_', '-')}")
        setattr(namespace, self.dest, values)


def warn_renamed(old: str, new: str) -> None:
    """Print that an option or value has a new name."""
    print(f"DeprecationWarning: {old} is now called {new}; the old name will be removed", file=sys.stderr)
