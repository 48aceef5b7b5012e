"""Component metrics by hand, and what they refuse."""

import math
import sys

import numpy as np
import pytest
import torch

from rwpm_fast.metrics import BinnedPixelMetrics, ComponentMetrics, component_metrics
from rwpm_fast.metrics.components import THRESHOLDS


def scene(size=(60, 100), anomaly=((10, 30), (10, 40)), found=((10, 30), (20, 50))):
    """Labels with one object and scores with one blob, each (rows, columns)."""
    labels, scores = np.zeros(size, np.uint8), np.zeros(size, np.float32)
    for array, (rows, columns) in ((labels, anomaly), (scores, found)):
        array[slice(*rows), slice(*columns)] = 1
    return scores, labels


def test_an_object_half_found():
    scores, labels = scene()
    metrics = ComponentMetrics(0.5)
    metrics.update(scores, labels)
    metrics.update(torch.tensor(scores), torch.tensor(labels))
    result = metrics.compute()
    assert (result.true, result.predicted, result.images) == (2, 2, 2)
    assert result.siou == pytest.approx(400 / 800)
    assert result.ppv == pytest.approx(400 / 600)
    # sIoU 0.5 is reached by 6 thresholds, PPV 2/3 by 9.
    f1 = [1.0] * 6 + [0.0] * 5
    assert [count.f1 for count in result.by_threshold] == f1
    assert [count.fp for count in result.by_threshold] == [0] * 9 + [2] * 2
    assert result.f1 == pytest.approx(np.mean(f1))


def test_void_is_no_prediction_and_no_object():
    scores, labels = scene()
    labels[:, 40:] = 255
    metrics = ComponentMetrics(0.5, "anomaly_track")
    metrics.update(scores, labels)
    result = metrics.compute()
    assert result.predicted == 0 and math.isnan(result.ppv)  # 400 pixels are left, below the limit
    metrics = ComponentMetrics(0.5, "obstacle_track")
    metrics.update(scores, labels)
    assert metrics.compute().ppv == 1


@pytest.mark.parametrize("threshold", [0.5, math.nan])
def test_nothing_at_all_divides_by_nothing(threshold):
    metrics = ComponentMetrics(threshold)
    for images in (0, 1):
        result = metrics.compute()
        assert (result.true, result.predicted, result.images) == (0, 0, images)
        assert all(math.isnan(number) for number in (result.siou, result.ppv, result.f1))
        metrics.update(np.zeros((30, 40), np.float16), np.zeros((30, 40), np.uint8))


def test_a_missed_object_has_no_precision_and_no_f1():
    scores, labels = scene()
    metrics = ComponentMetrics(math.nan)
    metrics.update(scores, labels)
    result = metrics.compute()
    assert (result.siou, result.f1) == (0, 0) and math.isnan(result.ppv)


def test_thresholds_are_those_of_the_benchmark():
    assert THRESHOLDS.tolist() == [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6000000000000001, 0.65, 0.7, 0.75]


def test_two_passes_take_the_threshold_of_the_best_pixel_f1():
    rng = np.random.default_rng(0)
    frames = []
    for seed in range(3):
        scores, labels = scene(found=((10, 30), (10 + seed, 40)))
        frames.append((scores + rng.random(scores.shape, np.float32) / 2, labels))
    passes = []

    def maps():
        passes.append(0)
        return iter(frames)

    pixels, result = component_metrics(maps, "anomaly_track")
    assert len(passes) == 2
    binned = BinnedPixelMetrics()
    for frame in frames:
        binned.update(*frame)
    assert pixels == binned.compute() and result.score_threshold == pixels.best_f1_threshold
    assert (result.true, result.predicted) == (3, 3)


def test_merged_parts_equal_the_whole():
    frames = [scene(found=((10, 30), (first, 50))) for first in (10, 20, 30)]
    whole, one, other = (ComponentMetrics(0.5) for _ in range(3))
    for i, frame in enumerate(frames):
        whole.update(*frame)
        (one, other)[i > 0].update(*frame)
    one.merge(other)
    assert one.compute() == whole.compute()
    one.reset()
    assert one.compute().images == 0


def test_a_mask_of_ones_own_equals_its_threshold():
    scores, labels = scene()
    by_score, by_mask = ComponentMetrics(0.5), ComponentMetrics(0.5)
    by_score.update(scores, labels)
    by_mask.update_mask(scores > 0.5, labels)
    assert by_mask.compute() == by_score.compute()


@pytest.mark.parametrize(
    ("scores", "labels", "error", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), int), ValueError, r"scores: expected one image \[H, W\]"),
        (np.zeros((3, 4), np.float32), np.zeros((4, 3), int), ValueError, r"labels: expected shape \[3, 4\]"),
        (np.zeros((3, 4), int), np.zeros((3, 4), int), TypeError, "scores: expected floating point, got int64"),
        (np.zeros((3, 4)), np.zeros((3, 4)), TypeError, "labels"),
        (np.full((3, 4), np.nan), np.zeros((3, 4), int), ValueError, "scores: expected no NaN on valid pixels, got 12"),
    ],
)
def test_wrong_images_are_refused(scores, labels, error, message):
    metrics = ComponentMetrics(0.5)
    with pytest.raises(error, match=message):
        metrics.update(scores, labels)
    assert metrics.compute().images == 0


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="track: expected one of anomaly_track, obstacle_track, generic, got 'road'"):
        ComponentMetrics(0.5, "road")
    with pytest.raises(ValueError, match="track"):
        component_metrics(lambda: pytest.fail("no pass before the settings are checked"), "road")
    with pytest.raises(ValueError, match="other: expected threshold"):
        ComponentMetrics(0.5).merge(ComponentMetrics(0.6))
    with pytest.raises(TypeError, match="other"):
        ComponentMetrics(0.5).merge(BinnedPixelMetrics())


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"needs SciPy .*pip install 'rwpm-fast\[metrics\]'"):
        ComponentMetrics(0.5).update(*scene())
