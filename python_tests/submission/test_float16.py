"""Scores in float16: their order, their ends, and the report about them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwpm_fast.metrics import PixelMetrics
from rwpm_fast.submission import Float16Report, Rescaling
from rwpm_fast.submission.float16 import round_to_float16

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


@given(fitted=st.lists(FINITE, min_size=1, max_size=20), scores=st.lists(FINITE | st.sampled_from([np.inf, -np.inf])))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_order_stays_whatever_was_seen(fitted, scores):
    rescaling = Rescaling.fit([np.float32(fitted)])
    half = rescaling(np.sort(np.float32([*scores, *fitted, -np.inf, np.inf])))
    assert half.dtype == np.float16
    assert (np.diff(half.astype(np.float64)) >= 0).all()
    assert half[0] == -1 and half[-1] == 1
    assert not np.signbit(half[half == 0]).any()


@pytest.mark.parametrize(("mean", "times"), [(0.0, 1), (-12.0, 10), (500.0, 100)])
def test_more_scores_remain_distinct_than_by_rounding(mean, times):
    rng = np.random.default_rng(0)
    scores = (mean + rng.normal(size=(300, 400))).astype(np.float32)
    half = Rescaling.fit([scores])(scores)
    assert len(np.unique(half)) > 15_000
    assert len(np.unique(half)) > times * len(np.unique(scores.astype(np.float16)))


def test_high_scores_keep_more_than_low_ones():
    scores = np.linspace(-5, 5, 100_000, dtype=np.float32)
    half = Rescaling.fit([scores])(scores)
    assert len(np.unique(half[-5000:])) > 2 * len(np.unique(half[:5000]))


def test_scores_beyond_those_seen_stay_apart():
    rescaling = Rescaling.fit([np.linspace(0, 1, 1000, dtype=np.float32)])
    half = rescaling(np.float32([-np.inf, -100, -1, 0, 1, 1.5, 2, 100, np.inf]))
    assert (np.diff(half.astype(np.float64)) > 0).all()


def test_constant_scores_and_nan():
    rescaling = Rescaling.fit([np.full((3, 3), 7.0, np.float32)])
    assert rescaling.knots == (7.0,)
    half = rescaling(np.float32([6, 7, 8, np.nan]))
    assert half[0] < half[1] == 0 < half[2] and np.isnan(half[3])
    with pytest.raises(ValueError, match="expected finite scores"):
        Rescaling.fit([np.full((2, 2), np.nan)])


def test_rounding_tells_what_it_cannot_hold():
    assert round_to_float16(np.float32([1, np.inf])).tolist() == [1, np.inf]
    with pytest.raises(ValueError, match="2 are beyond float16's 65504 and would be infinite; rescale"):
        round_to_float16(np.float32([1, 1e5, -1e6]))


def test_report_counts_values_and_measures_ap():
    rng = np.random.default_rng(0)
    labels = (rng.random((100, 100)) < 0.02).astype(np.uint8)
    scores = (labels + 0.01 * rng.normal(size=labels.shape) - 2000).astype(np.float32)
    report = Float16Report()
    assert report.text() == "float16: nothing written"
    assert report.as_dict() == {"photos": 0}
    report.update(scores, round_to_float16(scores), labels)  # spacing 1 there
    facts = report.as_dict()
    assert facts["photos"] == 1 and facts["distinct_values_before"] == len(np.unique(scores))
    assert facts["distinct_values_after"] == facts["float16_values_used"] == len(set(scores.astype(np.float16).flat))
    assert facts["largest_tie_after"] > 0.9 > facts["largest_tie_before"]
    for key, values in (("ap_before", scores), ("ap_after", scores.astype(np.float16))):
        metrics = PixelMetrics()
        metrics.update(values, labels)
        assert facts[key] == metrics.compute().ap
    assert "AP " in report.text()
    unlabeled = Float16Report()
    unlabeled.update(scores, round_to_float16(scores))
    assert unlabeled.as_dict()["ap_before"] is None and "AP" not in unlabeled.text()
