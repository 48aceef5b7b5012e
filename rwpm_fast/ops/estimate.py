"""How long a walk will take on this machine, and in how much memory, before it begins.

The compiled walk chooses its path by what each costs (``csrc/cpu/cost.h``); here the same costs, scaled by one short
walk on the machine at hand, are seconds.

Maps of two photos by a road network, 45x80x160, 58x104x160 and 90x160x259, were walked in 20 steps on a machine that
others used as well. The exact walks took 0.9 to 1.8 times the processor time that was expected; those with a tolerance
of 4e-4 a time between the least and the most, 1.1 to 2.1 times what is expected at the density that they had.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from .. import native
from . import library
from . import registration as registration  # registers the operator
from .settings import WalkSettings
from .stopwatch import Stopwatch

# Cosines that the CPU's exact walk keeps for later transitions, at most: 256 MiB of float32 (csrc/cpu/cost.h).
MAX_KEPT_COSINES = 2**26

# Bytes of a sparse matrix at most, and of one of its pairs while it is built, as measured with VNNI: 40 MiB for a map
# of 90x160x259 that keeps 1 % of its pairs.
MAX_MATRIX_BYTES, PAIR_BYTES = 2**30, 12

# Share of all pairs that a sparse graph is assumed to keep at the least, and the pixels from which on one is built. A
# road network's maps of 3600 to 14 400 pixels keep 1 to 2 % of their pairs at a tolerance of 4e-4.
SPARSE_DENSITY, MIN_SPARSE_PIXELS = 0.005, 512

MEASURE_SECONDS = 1.0  # that the measurement of the machine may take


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


def state_bytes(pixels: int, channels: int, value_channels: int) -> float:
    """Packed embeddings and some states, in 32 bits."""
    return 4 * pixels * (channels + 4 * value_channels)


def exact_bytes(pixels: int, channels: int, value_channels: int, pairs: float) -> float:
    """Bytes beyond its inputs of the exact walk on the CPU: states, and the cosines that it keeps of ordered pairs."""
    return state_bytes(pixels, channels, value_channels) + 4 * min(MAX_KEPT_COSINES, pairs / 2)


def sparse_bytes(pixels: int, channels: int, value_channels: int, pairs: float) -> float:
    """Bytes beyond its inputs of a walk on the CPU with a tolerance that keeps, or lists before it gives up, so many
    ordered pairs; at most a GiB of them."""
    return state_bytes(pixels, channels, value_channels) + min(MAX_MATRIX_BYTES, PAIR_BYTES * pairs)


@dataclass(frozen=True)
class WalkCosts:
    """What a walk costs: seconds on the machine of the model or, where there is none, operations.

    Attributes:
        pixel: of a pixel, to pack it.
        streaming: of an ordered pair of pixels in an exact walk.
        filter: of an ordered pair, to find what a sparse graph keeps.
        stored: of a pair that it keeps, in addition.
        max_density: share of all pairs up to which a graph counts as sparse.
    """

    pixel: float
    streaming: float
    filter: float
    stored: float
    max_density: float


def walk_costs(pixels: int, channels: int, value_channels: int, steps: int, device: torch.device) -> WalkCosts:
    """Return what a walk costs: by the model of the compiled kernels, and by counting operations where others run.

    Args:
        pixels: P.
        channels: D of the embeddings.
        value_channels: C of the values.
        steps: T.
        device: on which the walk runs.
    """
    if steps == 0 or pixels == 0:
        return WalkCosts(0.0, 0.0, 0.0, 0.0, 0.0)
    if device.type == "cpu" and native.unsupported_reason() is None and library.unsupported_reason() is None:
        return WalkCosts(*native.native().walk_costs(pixels, channels, value_channels, steps))
    exact = exact_flops(pixels, channels, value_channels, steps) / pixels**2
    return WalkCosts(0.0, exact, float(channels), 2.0 * value_channels * steps, 0.5)


@cache
def seconds_a_unit(device: torch.device, threads: int) -> float:
    """Measure what a unit of :func:`walk_costs` takes on this machine, by a short exact walk.

    Args:
        device: on which it runs.
        threads: of torch; the measure of one number is not that of another.
    """
    embeddings, values, steps = torch.randn(1024, 128, device=device), torch.randn(1024, 16, device=device), 4
    laps: list[float] = []
    # The first warms up. Where others use the machine some take many times longer: the two best should agree.
    while len(laps) < 4 or (laps[1] > 1.2 * laps[0] and sum(laps) < MEASURE_SECONDS):
        watch = Stopwatch(device)
        torch.ops.rwpm.walk.default(embeddings, values, steps=steps)
        laps = sorted([*laps, watch.lap()])
    costs = walk_costs(1024, 128, 16, steps, device)
    return max(laps[0], 1e-9) / (1024 * costs.pixel + 1024**2 * costs.streaming)


@dataclass(frozen=True)
class Estimate:
    """What a walk is expected to take.

    Attributes:
        path: "streaming", or "sparse"; see :class:`rwpm_fast.ops.info.WalkInfo`.
        density: share of all pairs that is assumed to be kept; 1: all.
        seconds: of the walk.
        bytes: at its peak, beyond the inputs.
    """

    path: str
    density: float
    seconds: float
    bytes: float


def estimate_walk(
    size: tuple[int, int], channels: int, value_channels: int, settings: WalkSettings, device: torch.device
) -> tuple[Estimate, Estimate]:
    """Estimate a walk on a map, at least and at most.

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
    part_pixels, shape = height * width, (size[0] * size[1], channels, value_channels)
    costs = walk_costs(part_pixels, channels, value_channels, settings.steps, device)
    part_pairs = part_pixels**2  # the sub-maps are walked one after the other
    unit = settings.parts**2 * seconds_a_unit(device, torch.get_num_threads()) if settings.steps else 0.0

    def seconds(pair: float) -> float:
        return unit * (part_pixels * costs.pixel + part_pairs * pair)

    exact = Estimate("streaming", 1.0, seconds(costs.streaming), exact_bytes(*shape, part_pairs))
    if settings.tolerance == 0 or settings.steps == 0 or part_pixels < MIN_SPARSE_PIXELS:
        return exact, exact
    density = min(SPARSE_DENSITY, costs.max_density)
    found = sparse_bytes(*shape, costs.max_density * part_pairs)  # before the graph turns out too dense
    return (
        Estimate(
            "sparse",
            density,
            seconds(costs.filter + density * costs.stored),
            sparse_bytes(*shape, density * part_pairs),
        ),
        Estimate("streaming", 1.0, seconds(costs.filter + costs.streaming), max(found, exact.bytes)),
    )
