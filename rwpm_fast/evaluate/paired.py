"""A walk against going without it, or a method against another, photo by photo, and what is chance in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..metrics import PixelResult
from ..metrics.resampling import ImageCounts

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

    @property
    def interval(self) -> str:
        """The interval in percent, and whether it holds zero."""
        return interval_text(self.low, self.high)


@dataclass(frozen=True)
class PooledChange:
    """Change of a metric of the pooled pixels of all photos, as fractions.

    Attributes:
        change: the exact metric with the walk less that without it.
        low: lower end of its 95 % interval: a paired bootstrap, the 2.5 % quantile of the change of the pool of photos
            drawn with replacement, 1000 times from a fixed seed, the same photos for both.
        high: upper end, the 97.5 % quantile.
        holds_zero: whether the interval holds zero, so that nothing is shown.
        counting_error: by how much the change of the whole pool was off where it was computed as that of the samples
            is, from counts at common thresholds; the interval is moved by it. 0 or rounding where that is exact.
    """

    change: float
    low: float
    high: float
    holds_zero: bool
    counting_error: float

    @classmethod
    def from_samples(cls, exact: float, counted: float, samples: np.ndarray) -> PooledChange | None:
        """Make the change and its interval; None where no sample has both anomalies and inliers.

        Args:
            exact: the change.
            counted: the change of the whole pool, computed as that of the samples is.
            samples: [R] change of every sample; NaN without anomalies or inliers.
        """
        samples = samples[np.isfinite(samples)]
        if not (len(samples) and math.isfinite(exact)):
            return None
        low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + (exact - counted)
        return cls(exact, float(low), float(high), bool(low <= 0 <= high), counted - exact)

    def text(self) -> str:
        """Return change and interval in percent, and whether it holds zero."""
        return f"{100 * self.change:+.2f} ({interval_text(self.low, self.high)})"


@dataclass(frozen=True)
class Paired:
    """The walk's effect on the photos that have both anomalies and inliers, and on the pool of all.

    Where methods are compared, "without the walk" stands for the first one, and "with it" for the other.

    Attributes:
        photos: number of such photos.
        auroc: AuROC of each photo by itself.
        ap: AP of each.
        fpr95: FPR95 of each, of which less is better.
        pooled_ap: AP of the pooled pixels of all photos; None where the pool cannot be resampled.
        pooled_fpr95: FPR95 of them.
    """

    photos: int
    auroc: PairedMetric
    ap: PairedMetric
    fpr95: PairedMetric
    pooled_ap: PooledChange | None = None
    pooled_fpr95: PooledChange | None = None

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


def pooled_changes(
    results: tuple[PixelResult, PixelResult], counts: tuple[ImageCounts, ImageCounts]
) -> tuple[PooledChange | None, PooledChange | None]:
    """Compute the changes of pooled AP and FPR95 with their intervals.

    Args:
        results: exact metrics of the pool without and with the walk.
        counts: those of the same photos without and with it.
    """
    before, after = counts

    def change(name: str, place: int) -> PooledChange | None:
        exact = getattr(results[1], name) - getattr(results[0], name)
        counted = after.whole()[place] - before.whole()[place]
        return PooledChange.from_samples(exact, counted, after.bootstrap[place] - before.bootstrap[place])

    return change("ap", 0), change("fpr95", 1)


def interval_text(low: float, high: float) -> str:
    """Format an interval of fractions in percent, and say where it holds zero."""
    text = f"{100 * low:+.2f} to {100 * high:+.2f}"
    return f"{text}, holds zero" if low <= 0 <= high else text


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Compute the 95 % interval of a mean: its quantiles over samples with replacement, from a fixed seed.

    Args:
        values: [N], at least one.
    """
    number = len(values)
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)  # [R, N] counts
    low, high = np.quantile(drawn @ values / number, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
