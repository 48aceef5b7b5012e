"""Pools of images drawn with replacement: as if their pixels were sorted again for every sample."""

import numpy as np
import pytest

from rwpm_fast.metrics import PixelMetrics
from rwpm_fast.metrics.pixel import PooledPositives, pooled_metrics
from rwpm_fast.metrics.resampling import THRESHOLDS, ImageCounts, even_thresholds


def images(count, size, share, steps=None, seed=0):
    """Maps whose anomalies score higher, by another amount in every image; rounded to so many steps."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        labels = random.choice([0, 1, 255], size, p=[0.9 - share, share, 0.1])
        scores = random.normal(size=size) + (0.5 + index / count) * (labels == 1)
        made.append(((scores if steps is None else np.round(scores * steps) / steps).astype(np.float32), labels))
    return made


def counts_of(maps):
    positives = PooledPositives()
    for image in maps:
        positives.add(*image)
    pooled = pooled_metrics(positives, lambda: maps, "fishyscapes")
    return pooled, ImageCounts.concatenated(pooled.counts)


def pool(maps, drawn):
    metrics = PixelMetrics()
    for index in drawn:
        metrics.update(*maps[index])
    return metrics.compute()


def draws(count, samples, seed=0):
    """The images of each sample of ``ImageCounts.resampled``."""
    random = np.random.default_rng(seed)
    return [
        np.repeat(np.arange(count), drawn) for drawn in random.multinomial(count, np.full(count, 1 / count), samples)
    ]


@pytest.mark.parametrize("steps", [None, 8], ids=["distinct", "tied"])
def test_samples_are_those_of_their_pixels_where_scores_are_few(steps):
    maps = images(6, (20, 30), share=0.1, steps=steps)
    pooled, counts = counts_of(maps)
    assert counts.exact and pooled.result == pool(maps, range(6))
    ap, fpr95 = counts.resampled(20)
    for sample, drawn in enumerate(draws(6, 20)):
        expected = pool(maps, drawn)
        assert ap[sample] == pytest.approx(expected.ap, rel=1e-12)
        assert fpr95[sample] == expected.fpr95
    assert counts.whole() == pytest.approx((pooled.result.ap, pooled.result.fpr95), rel=1e-12)


def test_samples_of_many_scores_are_within_their_steps_of_recall():
    maps = images(5, (200, 300), share=0.1)
    pooled, counts = counts_of(maps)
    assert not counts.exact and counts.tp.shape == (5, THRESHOLDS)
    exact = np.array([[(result := pool(maps, drawn)).ap, result.fpr95] for drawn in draws(5, 10)]).T
    assert np.abs(np.array(counts.resampled(10)) - exact).max() < 3e-4
    assert np.abs(np.subtract(counts.whole(), (pooled.result.ap, pooled.result.fpr95))).max() < 3e-4


def test_thresholds_are_even_in_recall_and_fewer_of_many_images():
    scores = np.sort(np.random.default_rng(0).exponential(size=100_000).astype(np.float32))
    thresholds, exact = even_thresholds(scores, images=10)
    assert not exact
    assert len(thresholds) == THRESHOLDS and thresholds[0] == scores[0]
    assert np.diff(np.searchsorted(scores, thresholds)).max() <= 100_000 // THRESHOLDS + 1
    assert len(even_thresholds(scores, images=100_000)[0]) == 128
    few, exact = even_thresholds(np.float32([1, 1, 2]), images=1)
    assert exact and few.tolist() == [1, 2]
    assert not len(even_thresholds(scores[:0], images=1)[0])


def test_images_of_one_kind_only():
    maps = images(3, (10, 10), share=0.2)
    for scores, labels in images(2, (10, 10), share=0.0, seed=1):
        maps.append((scores, np.where(labels == 1, 0, labels)))
    _, counts = counts_of(maps)
    ap, fpr95 = counts.resampled(300)
    drawn = draws(5, 300)
    without = [not set(sample) & {0, 1, 2} for sample in drawn]
    assert any(without) and np.isnan(ap).tolist() == without and np.isnan(fpr95).tolist() == without
    _, none = counts_of(maps[3:])
    assert np.isnan(none.bootstrap).all() and np.isnan(none.whole()).all()
    assert ImageCounts.concatenated([]) is None
