"""Temporal consistency: known values, blind to unit and zero of the scores, merged as if seen by one."""

import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest
import torch

from rwpm_fast.metrics import TemporalConsistency, warp


def measure(maps, flow=None, occluded=None, **settings):
    metric = TemporalConsistency(**settings)
    for scores in maps:
        metric.update(scores, flow, occluded)
    return metric.compute()


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((6, 80, 90))


def test_maps_that_stay_are_consistent(noise):
    assert astuple(measure([noise[0]] * 3))[:4] == pytest.approx((0, 1, 1, 2))


def test_maps_that_move_with_the_scene_are_consistent(noise):
    flow = np.full((80, 90, 2), (2.0, -1.0))
    occluded = np.zeros((80, 90), bool)
    occluded[:, -2:] = occluded[:1] = True
    maps = [noise[0]]
    for _ in range(2):
        maps.append(warp(maps[-1], flow))
    moved, left = measure(maps, flow, occluded), measure(maps)
    assert moved.change == 0 and moved.correlation == pytest.approx(1)
    assert moved.pixels == 2 * (~occluded).sum()
    assert left.change > 1.3 and abs(left.correlation) < 0.1


def test_unrelated_maps_change_by_the_square_root_of_two(noise):
    result = measure(noise)
    assert result.change == pytest.approx(math.sqrt(2), abs=0.02) and abs(result.correlation) < 0.02
    assert result.iou == pytest.approx(0.01 / 1.99, abs=0.005)


def test_the_numbers_are_those_of_their_definition(noise):
    maps = noise + np.linspace(0, 3, 90)
    now, before = maps[1:].reshape(5, -1), maps[:-1].reshape(5, -1)
    result = measure(maps, share=0.1)
    spread = (now.var() + before.var()) / 2
    assert result.change == pytest.approx(math.sqrt(((now - before) ** 2).mean() / spread))
    assert result.correlation == pytest.approx(np.corrcoef(now.ravel(), before.ravel())[0, 1])
    masks = [m >= np.sort(m, axis=None)[-720] for m in maps]
    both = sum((a & b).sum() for a, b in itertools.pairwise(masks))
    either = sum((a | b).sum() for a, b in itertools.pairwise(masks))
    assert (result.iou, result.pairs, result.pixels) == (both / either, 5, now.size)


def test_unit_and_zero_of_the_scores_do_not_matter(noise):
    maps = noise + np.linspace(0, 3, 90)
    assert astuple(measure(1e-3 * maps + 7e4)) == pytest.approx(astuple(measure(maps)), rel=1e-6)


def test_masks_of_a_share_know_ranks_only(noise):
    maps = noise + np.linspace(0, 3, 90)
    assert measure(np.exp(maps)).iou == measure(maps).iou
    assert measure(maps, threshold=2.5).iou != measure(np.exp(maps), threshold=2.5).iou


def test_a_threshold_makes_the_masks():
    maps = np.array([[[0.0, 1, 2, 3]], [[3, 0, 2, 3]]])
    assert measure(maps, threshold=2.0).iou == 2 / 3


def test_accumulators_merge_as_if_one_had_seen_all(noise):
    maps = noise + np.linspace(0, 3, 90)
    whole, first, second = (TemporalConsistency() for _ in range(3))
    for part, metric in ((maps[:3], first), (maps[3:] + 100, second)):
        whole.start()
        for scores in part:
            whole.update(scores)
            metric.update(scores)
    first.merge(second)
    first.merge(TemporalConsistency())
    assert astuple(first.compute()) == pytest.approx(astuple(whole.compute()), rel=1e-9)
    assert first.compute().pairs == 4


def test_sequences_do_not_touch(noise):
    metric = TemporalConsistency()
    metric.update(noise[0])
    metric.start()
    metric.update(noise[1, :40])  # of another size
    assert metric.compute().pairs == 0 and math.isnan(metric.compute().change)


def test_tensors_are_taken_and_not_kept():
    scores = torch.arange(12.0).reshape(3, 4)
    metric = TemporalConsistency(share=0.25)
    metric.update(scores)
    scores += 100  # a buffer that is used again
    metric.update(scores - 100)
    assert astuple(metric.compute())[:3] == pytest.approx((0, 1, 1))


def test_constant_maps_have_no_scale():
    result = measure([np.ones((3, 4))] * 2)
    assert math.isnan(result.change) and math.isnan(result.correlation) and result.iou == 1


@pytest.mark.parametrize(
    ("scores", "settings", "error", "message"),
    [
        (np.zeros((3, 4), int), {}, TypeError, r"scores: expected floating point \[H, W\], got int64 \[3, 4\]"),
        (np.full((3, 4), np.nan), {}, ValueError, "scores: expected finite numbers, got 12 that are not"),
        (
            np.zeros((4, 3)),
            {},
            ValueError,
            r"scores: expected shape \[3, 4\] as in the frame before, got \[4, 3\]; call",
        ),
        (np.zeros((3, 4)), {"flow": np.zeros((4, 3, 2))}, ValueError, "flow: expected shape"),
        (np.zeros((3, 4)), {"occluded": np.zeros((4, 3))}, ValueError, r"occluded: expected shape \[3, 4\] as scores"),
    ],
)
def test_bad_frames_are_refused_and_change_nothing(scores, settings, error, message):
    metric = TemporalConsistency()
    metric.update(np.arange(12.0).reshape(3, 4))
    with pytest.raises(error, match=message):
        metric.update(scores, **settings)
    assert metric.compute().pairs == 0
    metric.update(np.arange(12.0).reshape(3, 4))
    assert metric.compute().change == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"share": 1.0}, "share: expected more than 0 and less than 1, got 1.0"), ({"threshold": math.nan}, "threshold")],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TemporalConsistency(**settings)


def test_merging_another_thing():
    with pytest.raises(TypeError, match="other: expected TemporalConsistency, got int"):
        TemporalConsistency().merge(3)
