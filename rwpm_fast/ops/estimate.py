"""How long a walk will take on this machine, before it begins."""

from __future__ import annotations

from functools import cache

import torch

from . import registration as registration  # registers the operator
from .settings import WalkSettings
from .stopwatch import Stopwatch

# Cosines that the CPU's exact walk keeps for later transitions, at most: 256 MiB of float32 (csrc/cpu/walk.cpp).
MAX_KEPT_COSINES = 2**26


def exact_flops(pixels: int, channels: int, value_channels: int, steps: int, max_kept: int = MAX_KEPT_COSINES) -> float:
    """Count the operations of the exact walk on the CPU, a multiply-add as two; with ``U = P (P + 1) / 2`` unordered
    pairs, those of a pixel with itself among them, of whose cosines ``K = min(U, max_kept)`` are kept::

        2 D P^2                         a pass over all pairs for the rows' maxima and sums
        2 D (K + (U - K) T)             cosines, one for both pixels of a pair: kept ones once, the others at every step
        2 C P^2 T                       weights times values, both ways

    The kernel goes over blocks of pixels and makes the squares on the diagonal whole; what is above the diagonal twice
    is not counted.

    Args:
        pixels: P.
        channels: D of the embeddings.
        value_channels: C of the values.
        steps: T.
        max_kept: cosines that are kept, at most.
    """
    if not steps:
        return 0
    unordered = pixels * (pixels + 1) // 2
    kept = min(unordered, max_kept)
    cosines = pixels**2 + kept + (unordered - kept) * steps
    return 2 * (channels * cosines + value_channels * pixels**2 * steps)


@cache
def flops_a_second(device: torch.device, threads: int) -> float:
    """Measure what the exact walk reaches on this machine, in operations of :func:`exact_flops` a second.

    Args:
        device: on which it runs.
        threads: of torch; the measure of one number is not that of another.
    """
    embeddings, values, steps = torch.randn(1024, 128, device=device), torch.randn(1024, 16, device=device), 4
    best = float("inf")
    for _ in range(4):  # the first warms up
        watch = Stopwatch(device)
        torch.ops.rwpm.walk.default(embeddings, values, steps=steps)
        best = min(best, watch.lap())
    return exact_flops(1024, 128, 16, steps) / max(best, 1e-9)


def walk_seconds(
    size: tuple[int, int], channels: int, value_channels: int, settings: WalkSettings, device: torch.device
) -> tuple[float, float]:
    """Estimate the seconds of a walk on a map, at least and at most.

    The two agree for the exact walk. With a tolerance the graph has to be seen to know: where it is sparse, a pass over
    all pairs finds what is kept, and the transitions cost little; where it is not, that pass comes before the exact
    walk.

    Args:
        size: height and width of the map.
        channels: D of the embeddings.
        value_channels: C of the values.
        settings: of the walk.
        device: on which it runs.
    """
    height, width = (-(-side // settings.parts) for side in size)
    pixels = height * width
    rate = flops_a_second(device, torch.get_num_threads()) / settings.parts**2
    exact = exact_flops(pixels, channels, value_channels, settings.steps) / rate
    if settings.tolerance == 0 or settings.steps == 0:
        return exact, exact
    pairs = channels * pixels**2 / rate
    return pairs, pairs + exact
