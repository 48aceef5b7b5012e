"""A walk against going without it, photo by photo: what metrics of pooled pixels do not tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..metrics import PixelResult

LEVEL = 0.95
RESAMPLES = 2000
TIE = 1e-4  # changes below it are no change: tables show two decimals of a percent


@dataclass(frozen=True)
class PairedMetric:
    """A metric of the same photos without and with a walk, as fractions.

    Attributes:
        without: mean over the photos without the walk.
        walked: mean over the photos with it.
        better: number of photos on which the metric is better with the walk, by 0.01 % or more.
        worse: number of those on which it is worse by as much.
        tied: number of the others.
        low: lower end of the 95 % interval of ``walked - without``: a paired bootstrap, the 2.5 % quantile of the mean
            change in 2000 samples of the photos with replacement, from a fixed seed.
        high: upper end, the 97.5 % quantile.
    """

    without: float
    walked: float
    better: int
    worse: int
    tied: int
    low: float
    high: float

    @property
    def change(self) -> float:
        """Mean change by the walk."""
        return self.walked - self.without


@dataclass(frozen=True)
class Paired:
    """The walk's effect on the photos that have both anomalies and inliers.

    Attributes:
        photos: number of such photos.
        auroc: AuROC of each photo by itself.
        ap: AP of each.
        fpr95: FPR95 of each, of which less is better.
    """

    photos: int
    auroc: PairedMetric
    ap: PairedMetric
    fpr95: PairedMetric

    @classmethod
    def from_results(cls, without: Sequence[PixelResult], walked: Sequence[PixelResult]) -> Paired | None:
        """Compare the metrics of the same photos; None if no photo has both anomalies and inliers."""
        pairs = [pair for pair in zip(without, walked, strict=True) if pair[0].positives and pair[0].negatives]
        if not pairs:
            return None

        def metric(name: str, sign: int) -> PairedMetric:
            before, after = (np.array([getattr(pair[side], name) for pair in pairs]) for side in (0, 1))
            gains = sign * (after - before)
            better, worse = int((gains >= TIE).sum()), int((gains <= -TIE).sum())
            low, high = bootstrap_interval(after - before)
            without, walked = (math.fsum(values) / len(values) for values in (before, after))
            return PairedMetric(without, walked, better, worse, len(gains) - better - worse, low, high)

        return cls(len(pairs), metric("auroc", 1), metric("ap", 1), metric("fpr95", -1))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Compute the 95 % interval of a mean: its quantiles over samples with replacement, from a fixed seed.

    Args:
        values: [N], at least one.
    """
    number = len(values)
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)  # [R, N] counts
    low, high = np.quantile(drawn @ values / number, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
