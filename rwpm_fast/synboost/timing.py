"""Time of each module of the chain, for several chains in turn.

Source: SynBoost, table 5. It has four modules, the mean of 100 photos on a GTX 1080 Ti, and tells neither warm-up nor
standard deviation; entropy, softmax distance, resizes and the ensemble are in none of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from ..checks import check_integers
from ..networks import CompactNet, DeepLabWRN38
from ..scoring.scorer import Scorer
from . import methods
from .ccfpse import CCFPSEEncoder, CCFPSEGenerator
from .dissimilarity import DissimilarityNet
from .features import NetworkFeatures
from .light_generator import LightGenerator, LightSynthesis
from .pipeline import Seconds, SynBoost
from .synthesis import CCFPSESynthesis
from .vgg import VGG19

PHOTO_SIZE = (1024, 2048)  # height and width of the photos of table 5


def measure_chains(
    chains: Mapping[str, SynBoost],
    photo: Any,
    *,
    runs: int = 100,
    warmup: int = 10,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, list[Seconds]]:
    """Score a photo by several chains again and again, and measure each module.

    The chains take turns, so that what else happens on the machine meets all of them alike. Before and after each
    module the work queued on the device is waited for.

    Args:
        chains: name to chain.
        photo: see :meth:`rwpm_fast.synboost.pipeline.SynBoost.__call__`; batches are of this one photo.
        runs: rounds that are measured.
        warmup: rounds before them that are not.
        progress: wraps the numbers of all rounds, such as in a progress bar.

    Returns:
        Name of a chain to the seconds of each measured round.

    Raises:
        TypeError: ``runs`` or ``warmup`` is not an integer.
        ValueError: no chain, fewer than one run, or a negative ``warmup``; or see there.

    Example:
        >>> seconds = measure_chains({"light": untrained_chain("light")}, photo, runs=20)
        >>> statistics.mean(round.dissimilarity for round in seconds["light"])
    """
    check_integers(runs=runs, warmup=warmup)
    if not chains:
        raise ValueError("chains: expected one or more, got none")
    if runs < 1:
        raise ValueError(f"runs: expected 1 or more, got {runs}")
    if warmup < 0:
        raise ValueError(f"warmup: expected 0 or more, got {warmup}")
    seconds: dict[str, list[Seconds]] = {name: [] for name in chains}
    for number in progress(range(warmup + runs)):
        for name, chain in chains.items():
            of_modules = chain(photo).seconds
            if number >= warmup:
                seconds[name].append(of_modules)
    return seconds


def untrained_chain(kind: str, device: torch.device | str = "cpu") -> SynBoost:
    """Make a chain with random weights, by which times are measured as well as by trained ones.

    The full chain is the paper's: DeepLabV3+ on WideResNet-38, CC-FPSE at 512 x 1024, VGG19 and the dissimilarity
    network. The light one is made as the package's own small set is: compact network, light generator, a dissimilarity
    network of 16 channels in place of 64, and a perceptual difference of the compact network's embeddings. The paper's
    has ICNet and SPADE, and the other two as the full chain.

    Args:
        kind: "full" or "light".
        device: of all networks.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("full", "light"):
        raise ValueError(f"kind: expected full or light, got {kind!r}")
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)  # so that all runs have the same segmentation
        if kind == "full":
            return SynBoost(
                segmentation=Scorer(DeepLabWRN38(outputs=19)),
                synthesis=CCFPSESynthesis(CCFPSEGenerator((512, 1024)), CCFPSEEncoder()),
                dissimilarity=DissimilarityNet(),
                features=VGG19(),
            )
        network = CompactNet.load().to(device)
        return SynBoost(
            segmentation=Scorer(network),
            synthesis=LightSynthesis(LightGenerator(methods.WIDTH)),
            dissimilarity=DissimilarityNet(width=methods.WIDTH),
            features=NetworkFeatures(network),
        )
