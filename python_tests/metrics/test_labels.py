"""Which labels count as what, and what is said of labels that mean nothing."""

import math
import warnings

import numpy as np
import pytest
import torch

from python_tests.places import DATA
from rwpm_fast.metrics import BinnedPixelMetrics, ComponentMetrics, PixelMetrics
from rwpm_fast.scores import energy

COWS = sorted((DATA / "embeddings").glob("dabnet__*cows*.npz"))
BOTH = pytest.mark.parametrize("metrics", [PixelMetrics, BinnedPixelMetrics])


def pixel(scores, labels, **settings):
    metrics = PixelMetrics(**settings)
    metrics.update(scores, labels)
    return metrics.compute()


def figures(result):
    return pytest.approx((result.auroc, result.ap, result.fpr95), abs=5e-7)


@pytest.fixture(scope="module")
def cows():
    """DABNet's energy of a photo and its labels, [90, 160]."""
    if not COWS:
        pytest.skip(f"no embeddings of cows in {DATA / 'embeddings'}; set RWPM_DATA to the data folder")
    with np.load(COWS[0]) as file:
        labels = (file["label_s8"] > 0).astype(np.int64)
        return energy(torch.from_numpy(file["logits"]).float()[None])[0].numpy(), labels


@pytest.mark.parametrize("offset", [0, 30])
def test_a_photo_under_any_offset_of_its_scores(cows, offset):
    """Positive scores are not squashed, as by metrics that take them for logits."""
    scores, labels = cows
    assert figures(pixel(scores + np.float32(offset), labels)) == (0.787219, 0.302398, 0.513770)


@pytest.mark.parametrize(
    ("inlier", "anomaly", "void", "settings"),
    [
        (0, 1, 255, {}),
        (0, 1, 1000, {}),
        (0, -1, 1, {"positive": (-1,)}),
        (0, -1, 1, {"positive": (-1,), "void": (1,)}),
        (0, 1, -1, {"void": (-1,)}),
        (-100, 2, -1, {"positive": (2,), "negative": (-100,), "void": (-1, 255)}),
        (3, 7, 0, {"positive": (7, 8), "negative": (3,)}),
    ],
    ids=["0 1 255", "0 1 1000", "pytorch-ood", "pytorch-ood, void named", "-1 void", "-100 inlier", "any"],
)
def test_values_of_one_meaning_give_the_same_figures(cows, inlier, anomaly, void, settings):
    scores, labels = cows
    coded = np.where(labels == 1, anomaly, inlier)
    coded[:30] = void
    result = pixel(scores, coded, **settings)
    assert figures(result) == (0.778242, 0.378559, 0.478626)
    assert (result.positives, result.negatives) == (2091, 7509)


@BOTH
@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([0, -1, 1], {}, r"got -1, which is neither .*pytorch-ood labels anomalies -1 and void 1 \(positive=\(-1,\)"),
        ([0, 1, -100, -2], {}, "got -100, -2, which are neither positive .1. nor negative .0. and, being below 0"),
        ([0, 1, -1], {"positive": (1, 2), "negative": (0, 3)}, "got -1, which is neither positive .1, 2. nor negative"),
        ([0, 1, 1000], {"void": (255,)}, r"got 1000, which is neither positive .1. nor negative .0. nor void .255."),
        ([0, 1, 3], {"void": ()}, "got 3, which is neither"),
    ],
)
def test_labels_without_a_meaning_are_refused(metrics, labels, settings, message):
    accumulator = metrics(**settings)
    with pytest.raises(ValueError, match=f"labels: {message}"):
        accumulator.update(np.zeros(len(labels), np.float32), np.array(labels))
    accumulator.update(np.zeros(2, np.float32), np.array([0, 1]))
    result = accumulator.compute()
    assert (result.images, result.positives, result.negatives) == (1, 1, 1)


def test_components_refuse_them_too():
    with pytest.raises(ValueError, match="labels: got -1, which is neither positive"):
        ComponentMetrics(0.5, "generic").update(np.zeros((2, 3), np.float32), np.array([[0, 1, -1]] * 2))


@BOTH
def test_a_value_of_two_kinds(metrics):
    with pytest.raises(ValueError, match=r"void: expected label values that are neither .* got \[0, 1\]"):
        metrics(void=(0, 1, 255))


@pytest.mark.parametrize(
    ("labels", "missing"),
    [([0, 1000], "positive"), ([0, 255], "positive"), ([1, 7], "negative"), ([2, 255], "positive|negative")],
)
@BOTH
def test_a_missing_kind_is_told_with_the_labels_that_are_there(metrics, labels, missing):
    kind, metrics = metrics, metrics()
    for label in labels:
        metrics.update(np.zeros((2, 3), np.float32), np.full((2, 3), label))
    there = f"the labels are {labels[0]}, {labels[1]}$"
    with pytest.warns(RuntimeWarning, match=f"^({missing}): no pixel is labeled (0|1), .*{there}") as told:
        result = metrics.compute()
    assert len(told) == len(missing.split("|")) and math.isnan(result.auroc)
    assert told[0].filename == __file__
    merged = kind()
    merged.merge(metrics)
    with pytest.warns(RuntimeWarning, match=there):
        merged.compute()


def test_images_without_anomalies_beside_others_are_right():
    """No warning, and their inliers count."""
    metrics = PixelMetrics()
    for anomalies in (0, 2, 0):
        metrics.update(np.arange(6, dtype=np.float32), (np.arange(6) >= 6 - anomalies).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = metrics.compute()
        assert PixelMetrics().compute().images == 0
    assert (result.positives, result.negatives, result.images) == (2, 16, 3)
    assert result.ap == pytest.approx((1 / 3 + 2 / 6) / 2)


@pytest.fixture(scope="module")
def many():
    random = np.random.default_rng(0)
    n = 200_000
    labels = random.random(n) < 0.05
    random.normal(25, 5, n), random.normal(20, 5, n)
    return np.where(labels, random.uniform(10, 40, n), random.uniform(0, 30, n)).astype(np.float32), labels


def test_positive_scores(many):
    assert figures(pixel(*many)) == (0.780390, 0.432393, 0.615870)


def test_a_constant_map(many):
    """AP is the share of anomalies, not the trapezoid's half."""
    assert figures(pixel(np.zeros_like(many[0]), many[1])) == (0.5, 0.049475, 1.0)


@pytest.mark.parametrize(
    ("rule", "fpr95"), [("fishyscapes", 0.0), ("smiyc", 0.0), ("pebal", 0.6), ("rwpm", 0.6), ("mask2anomaly", 0.6)]
)
def test_rules_of_fpr95_where_they_part(rule, fpr95):
    labels = np.array([1] * 19 + [0] * 12 + [1] + [0] * 8)
    result = pixel(-np.arange(40, dtype=np.float32), labels, fpr_rule=rule)
    assert figures(result) == (0.97, 0.98125, fpr95)
