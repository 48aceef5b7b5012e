"""Networks and scorers that the shared options describe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .options import scorer_settings, walk_overrides

if TYPE_CHECKING:
    from ..networks import Network
    from ..scoring.scorer import Scorer


def load_network(options: argparse.Namespace) -> Network:
    """Load the network onto its device, and set the number of threads.

    Raises:
        ValueError: threads, a device or weights that cannot be used, or an unknown name.
        FileNotFoundError: no such weight file.
    """
    from .. import networks
    from ..scoring.device import set_threads, torch_device

    set_threads(options.threads, "--threads")
    device = torch_device(options.device, "--device")
    return networks.load(options.network, options.weights, weights_key=options.weights_key).to(device)


def load_scorer(options: argparse.Namespace, score: str | None = None) -> Scorer:
    """Make the scorer of the network, with the walk.

    Args:
        options: of a parser with network and walk options.
        score: name in ``rwpm_fast.scores``; None for that of the network's authors.

    Raises:
        ValueError: see :func:`load_network`, or a setting outside its range.
        FileNotFoundError: no such weight file.
    """
    from ..ops.maps import Walk
    from ..ops.settings import command_settings
    from ..scoring.scorer import Scorer
    from .slow import announce_slow_walks

    given = walk_overrides(options)
    command_settings(given)  # a wrong setting is told before the network is loaded
    network = load_network(options)
    walk = Walk(**vars(command_settings(given, anchor_share=network.default_anchor_share)))
    scorer = Scorer(network, score, walk, **scorer_settings(options))
    announce_slow_walks(scorer)
    return scorer
