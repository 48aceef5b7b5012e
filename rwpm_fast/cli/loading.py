"""Networks and scorers that the shared options describe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .options import method_files, network_settings, scorer_settings, walk_overrides

if TYPE_CHECKING:
    from ..networks import Network
    from ..scoring.scorer import Scorer


def load_network(options: argparse.Namespace) -> Network:
    """Load the network onto its device, and set the number of threads.

    Raises:
        ValueError: threads, a device or weights that cannot be used, an unknown name, or settings that the network has
            not.
        FileNotFoundError: no such weight file, or file that builds the network.
        ImportError: a module that builds the network is not found.
    """
    from .. import networks
    from ..scoring.device import set_threads, torch_device

    set_threads(options.threads, "--threads")
    device = torch_device(options.device, "--device")
    settings = network_settings(options)
    return networks.load(options.network, options.weights, weights_key=options.weights_key, **settings).to(device)


def load_scorer(options: argparse.Namespace, score: str | None = None, announce: bool = True) -> Scorer:
    """Make the scorer of the network, or of the method around it, with the walk.

    Args:
        options: of a parser with network, method and walk options.
        score: name of a score; None for the method's, or that of the network's authors.
        announce: say so before a walk that takes long; one of several processes does.

    Raises:
        ValueError: see :func:`load_network`, a setting outside its range, or options that do not go together.
        FileNotFoundError: no such weight file.
    """
    from ..ops.maps import Walk
    from ..ops.settings import command_settings
    from ..scoring.scorer import Scorer
    from .slow import announce_slow_walks

    given = walk_overrides(options)
    command_settings(given)  # a wrong setting is told before the network is loaded
    check_method(options)
    walks = _walks(options)
    flags = {"calibrate": options.calibrate, "no-walk-padding": not options.walk_padding}
    needless = [] if walks else [*given, *(name for name, is_given in flags.items() if is_given)]
    if needless:
        setting = f"--{needless[0].replace('_', '-')}"
        raise ValueError(f"{setting}: a setting of the walk, and nothing walks; say what walks by --walk-values")
    network = load_network(options)
    # The networks' anchor shares were chosen for scores of logits.
    share = network.default_anchor_share if options.method is None else 0.0
    walk = Walk(**vars(command_settings(given, anchor_share=share))) if walks else None
    settings = scorer_settings(options)
    if options.method is None:
        scorer = Scorer(network, score, walk, **settings)
    else:
        from ..synboost import SynBoostScorer, load

        pipeline = load(options.method, Scorer(network), **method_files(options))
        scorer = SynBoostScorer(pipeline, score, walk, **settings)
    if announce:
        announce_slow_walks(scorer)
    return scorer


def check_method(options: argparse.Namespace) -> None:
    """Check the method and its files before a network is loaded.

    Raises:
        ValueError: an unknown method, files without one, or others than it needs.
        FileNotFoundError: no such file or folder.
    """
    from ..synboost.methods import METHODS

    if options.method is not None:
        check_method_files(options.method, options)
    elif files := method_files(options):
        name = next(iter(files)).replace("_", "-")
        raise ValueError(f"--{name}: only for --method {' or '.join(METHODS)}")


def check_method_files(method: str, options: argparse.Namespace) -> None:
    """Check the files of a method, with the options' names in the errors of
    :func:`rwpm_fast.synboost.methods.check_files`."""
    from ..synboost.methods import FILES, check_files

    try:
        check_files(method, method_files(options))
    except (ValueError, FileNotFoundError) as error:
        name, _, reason = str(error).partition(": ")
        if name not in ("method", *FILES):
            raise
        raise type(error)(f"--{name.replace('_', '-')}: {reason}") from error


def _walks(options: argparse.Namespace) -> bool:
    """Whether anything walks, by the options or by default."""
    if options.walk_values is not None or options.method is None:
        return options.walk_values != "none"
    from ..synboost.methods import DEFAULT_WALK_VALUES

    return DEFAULT_WALK_VALUES != "none"
