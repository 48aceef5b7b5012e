"""Published settings of the walk by method and benchmark.

Random Walk on Pixel Manifolds (Zeng & Tomite, ECCV 2024): alpha and T from Table S.2 of the supplement, partition and
calibration by network family as in Table S.1, temperature from Table S.4. The anchored walk is not of that paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["ANCHOR_SHARE", "BENCHMARKS", "METHODS", "Method", "Preset", "preset"]

# Share of an image's pixels to anchor, for any network, with alpha, T and tau as published: the largest of 1, 2, 3, 5
# and 10 % that kept the mean AP over photos within a point of the best share's, for energy and max logit of DABNet and
# the compact network, on 40 rendered scenes and on every other photo of the Obstacle track (bench/anchor_share.py).
ANCHOR_SHARE = 0.03


@dataclass(frozen=True)
class Preset:
    """Settings of one experiment.

    Attributes:
        alpha: continuing probability, in [0, 1].
        steps: the paper's T.
        temperature: softmax temperature tau.
        parts: n of the paper: the map is cut into n x n sub-maps.
        calibrated: whether the sub-maps' scores are calibrated, see :func:`rwpm_fast.scoring.calibration.calibrate`.
    """

    alpha: float
    steps: int
    temperature: float
    parts: int
    calibrated: bool

    def released(self) -> Preset:
        """Return a copy of a published preset with the T + 1 transitions that the released code makes."""
        return replace(self, steps=self.steps + 1)


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        title: its name in the tables.
        network: name in ``rwpm_fast.networks``.
        parts: n of the paper; 4 for pixel-based networks, whose scores are calibrated, and 2 for mask-based ones.
    """

    title: str
    network: str
    parts: int


BENCHMARKS = ("fishyscapes_lost_and_found", "road_anomaly", "anomaly_track", "obstacle_track")
METHODS = {
    "pebal": Method("PEBAL", "deeplab_wrn38", 4),
    "balanced_energy": Method("Balanced Energy", "deeplab_wrn38", 4),
    "mask2anomaly": Method("Mask2Anomaly", "mask2anomaly", 2),
    "rba": Method("RbA", "rba_swin_b", 2),
}

_STEPS = (5, 20, 5, 5)  # by benchmark
_ALPHAS = {
    "pebal": (0.99, 0.99, 0.99, 0.99),
    "balanced_energy": (0.90, 0.99, 0.99, 0.99),
    "mask2anomaly": (0.10, 0.99, 0.90, 0.70),
    "rba": (0.50, 0.99, 0.99, 0.90),
}


def preset(method: str, benchmark: str) -> Preset:
    """Return the published settings of a method on a benchmark.

    Args:
        method: one of :data:`METHODS`.
        benchmark: one of :data:`BENCHMARKS`.

    Returns:
        Settings with the paper's T; see :meth:`Preset.released` for those of the released code.

    Raises:
        ValueError: unknown method or benchmark.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if benchmark not in BENCHMARKS:
        raise ValueError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {benchmark!r}")
    column = BENCHMARKS.index(benchmark)
    parts = METHODS[method].parts
    return Preset(
        alpha=_ALPHAS[method][column],
        steps=_STEPS[column],
        temperature=0.01,
        parts=parts,
        calibrated=parts > 2,
    )
