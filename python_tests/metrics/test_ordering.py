"""Sorted scores and their counts above thresholds, compiled and by NumPy alone."""

import numpy as np
import pytest

from rwpm_fast import native
from rwpm_fast.metrics.ordering import add_counts_above, sorted_scores
from rwpm_fast.metrics.pixel import PixelMetrics, pixel_metrics


@pytest.fixture(params=["compiled", "numpy"])
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(native, "unsupported_reason", lambda: "left out")
    elif reason := native.unsupported_reason():
        pytest.skip(reason)


def scores(count, dtype, seed=0):
    random = np.random.default_rng(seed)
    made = random.normal(size=count) * np.exp(3 * random.normal(size=count))
    made[::3] = np.round(made[::3])
    made[:4] = np.inf, -np.inf, 0.0, -0.0
    return made.clip(-6e4, 6e4).astype(dtype) if dtype == np.float16 else made.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_in_order(way, dtype):
    given = scores(5000, dtype)
    ordered = sorted_scores(given)
    assert ordered.dtype == dtype and np.array_equal(ordered, np.sort(given.astype(np.float64)).astype(dtype))
    assert np.array_equal(sorted_scores(given[::7]), np.sort(given[::7].astype(np.float64)).astype(dtype))
    assert not len(sorted_scores(given[:0]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("of_thresholds", [np.float32, np.float64])
def test_counts_are_added(way, dtype, of_thresholds):
    ordered, thresholds = sorted_scores(scores(3000, dtype)), sorted_scores(scores(200, of_thresholds, seed=1))
    at_or_above, above = np.full(200, 3), np.full(200, 4)
    add_counts_above(ordered, thresholds, at_or_above, above)
    assert at_or_above.tolist() == [3 + (ordered.astype(np.float64) >= threshold).sum() for threshold in thresholds]
    assert above.tolist() == [4 + (ordered.astype(np.float64) > threshold).sum() for threshold in thresholds]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_two_passes_have_the_numbers_of_all_in_memory(way, dtype):
    random = np.random.default_rng(2)
    images = [(scores(2400, dtype, seed).reshape(40, 60), random.integers(0, 3, (40, 60))) for seed in range(4)]
    images = [(image + (labels == 1).astype(dtype), labels) for image, labels in images]
    metrics = PixelMetrics()
    for image in images:
        metrics.update(*image)
    assert pixel_metrics(lambda: images)[0] == metrics.compute()
