"""Average precision of objects by hand, against recorded output of Cityscapes' evaluation, and what is refused."""

import math

import numpy as np
import pytest
import torch

from rwpm_fast.metrics import InstanceMetrics

SIZE = (48, 64)


def rectangle(rows, columns, height, width):
    mask = np.zeros(SIZE, bool)
    mask[rows : rows + height, columns : columns + width] = True
    return mask


def scenes(seed, count=4):
    """Images of labels, instances, masks and confidences: objects and masks are rectangles that overlap by chance.

    Some objects are too small to count, some are found twice, some masks are on void, and confidences are tied.
    """
    random = np.random.default_rng(seed)
    for _ in range(count):
        labels, instances = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.int32)
        places = [(*random.integers(0, (38, 52)), *random.integers(2, 12, 2)) for _ in range(5)]
        for number, place in enumerate(places):
            labels[rectangle(*place)], instances[rectangle(*place)] = 1, 26001 + number
        labels[40:, :20] = 255
        near = [tuple(np.array(place) + random.integers(-1, 2, 4) * (1, 1, 0, 0)) for place in places]
        others = [(*random.integers(0, (38, 52)), *random.integers(2, 12, 2)) for _ in range(4)]
        found = [*near, *places[:2], *others, (41, 2, 6, 16)]
        masks = [rectangle(max(r, 0), max(c, 0), h, w) for r, c, h, w in found]
        yield labels, instances, masks, np.round(random.random(len(masks)), 1)


# cityscapesScripts 2.2.4, minRegionSizes 10 as OoDIS sets it, on these scenes: void 0, inliers 7, objects 26001 and up.
RECORDED = {
    1: [
        *(0.493598754678, 0.305604785324, 0.27459795293, 0.216639550434, 0.127615273313),
        *(0.111612926428, 0.0956654010994, 0.0704521912753, 0.0704521912753, 0.0704521912753),
    ],
    3: [
        *(0.53127150894, 0.53127150894, 0.430864908687, 0.430864908687, 0.296878803836),
        *(0.296878803836, 0.157004387974, 0.129998924236, 0.129998924236, 0.129998924236),
    ],
}


@pytest.mark.parametrize("seed", RECORDED)
def test_equals_the_evaluation_of_cityscapes(seed):
    """Whole, and merged of two halves in another order."""
    whole, halves = InstanceMetrics(), [InstanceMetrics(), InstanceMetrics()]
    for index, (labels, instances, masks, confidences) in enumerate(scenes(seed)):
        whole.update(masks, confidences, labels, instances)
        halves[index % 2].update(torch.tensor(np.array(masks)), confidences, torch.tensor(labels), instances)
    result = whole.compute()
    assert result.by_threshold == pytest.approx(RECORDED[seed], rel=1e-11)
    assert result.ap == pytest.approx(np.mean(RECORDED[seed])) and result.ap50 == result.by_threshold[0]
    halves[1].merge(halves[0])
    assert halves[1].compute() == result
    assert (result.images, result.predicted) == (4, 48)


def test_components_of_a_map():
    """Two objects of two: one found whole, one to 60 %; and a false one that is less sure than both."""
    labels, scores = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.float32)
    labels[rectangle(2, 2, 10, 10)] = labels[rectangle(2, 20, 10, 10)] = 1
    scores[rectangle(2, 2, 10, 10)], scores[rectangle(2, 20, 10, 6)] = 4, 3
    scores[rectangle(30, 30, 5, 5)] = 2
    scores[rectangle(20, 2, 3, 3)] = 9  # 9 pixels are too few
    labels[40:] = 255
    scores[40:] = 9
    scores[45, 0] = np.nan
    metrics = InstanceMetrics()
    metrics.update_map(scores, labels, 1)
    result = metrics.compute()
    assert (result.true, result.predicted, result.images) == (2, 3, 1)
    # Recall 1/2 and 1 from the surest on, each at precision 1, and the false one after that at the same recall.
    assert result.by_threshold[:2] == (1, 1)
    # Above an IoU of 0.6 the second object is missed: recall ends at 1/2, reached at precision 1.
    assert result.by_threshold[2:] == (0.5,) * 8
    assert (result.ap, result.as_dict()["ap50"]) == (pytest.approx(0.6), 1)
    largest = InstanceMetrics()
    scores[5, 5], scores[31, 31] = 4.5, 9  # the false one is the surest by its maximum
    largest.update_map(scores, labels, 1, confidence="max")
    assert largest.compute().ap50 == pytest.approx(0.25 * 2 / 3 + 0.5 * 1 / 2)


def test_instances_part_what_touches():
    """Two objects side by side are one component, and two by their instances."""
    labels, instances = np.zeros(SIZE, np.uint8), np.full(SIZE, 7, np.uint16)
    labels[rectangle(0, 0, 10, 20)] = 1
    instances[:, :10] = 3
    masks = [rectangle(0, 0, 10, 10), rectangle(0, 10, 10, 10)]
    for given, ap, true in ((instances, 1, 2), (None, 0, 1)):
        metrics = InstanceMetrics()
        metrics.update(masks, [0.5, 0.5], labels, given)
        assert (metrics.compute().ap, metrics.compute().true) == (pytest.approx(ap), true)


def test_void_and_small_objects_make_no_prediction_false():
    labels = np.zeros(SIZE, np.uint8)
    labels[rectangle(0, 0, 10, 10)], labels[20:], labels[15, :9] = 1, 255, 1
    metrics = InstanceMetrics()
    masks = [rectangle(0, 0, 10, 10), rectangle(19, 0, 21, 5), rectangle(15, 0, 1, 8), np.zeros(SIZE, bool)]
    metrics.update(masks, [0.1, 0.9, 0.9, 0.9], labels)
    result = metrics.compute()
    assert (result.ap, result.true, result.predicted) == (1, 1, 3)


def test_images_without_objects_or_predictions():
    empty = InstanceMetrics()
    assert math.isnan(empty.compute().ap)
    empty.update([rectangle(0, 0, 5, 5)], [1.0], np.zeros(SIZE, np.uint8))
    assert math.isnan(empty.compute().ap50) and empty.compute().predicted == 1
    labels = rectangle(0, 0, 5, 5).astype(np.uint8)
    missed = InstanceMetrics()
    missed.update_map(np.zeros(SIZE), labels, math.nan)
    missed.update([], [], labels)
    assert (missed.compute().ap, missed.compute().true) == (0, 2)
    with pytest.raises(TypeError, match="other: expected InstanceMetrics, got int"):
        missed.merge(1)
    with pytest.raises(ValueError, match="other: expected smallest 10, got 20"):
        missed.merge(InstanceMetrics(20))


LABELS = rectangle(0, 0, 5, 5).astype(np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.update([LABELS], [1.0], LABELS), r"masks: expected bool \[48, 64\] to match labels, got uint8"),
        (lambda m: m.update([LABELS[1:] > 0], [1.0], LABELS), r"masks: expected bool .*, got bool \[47, 64\]"),
        (lambda m: m.update([LABELS > 0], [1.0, 2.0], LABELS), "confidences: expected 1 finite numbers"),
        (lambda m: m.update([LABELS > 0], [math.nan], LABELS), "confidences: expected 1 finite numbers"),
        (lambda m: m.update([], [], LABELS * 1.0), "labels: expected integers, got float64"),
        (lambda m: m.update([], [], LABELS[0]), r"labels: expected one image \[H, W\], got \[64\]"),
        (lambda m: m.update([], [], LABELS.astype(int) - 1), "labels"),
        (lambda m: m.update([], [], LABELS, LABELS[1:]), r"instances: expected integers \[48, 64\].* got uint8 \[47"),
        (lambda m: m.update_map(LABELS, LABELS, 0), "scores: expected floating point, got uint8"),
        (lambda m: m.update_map(np.zeros((2, 2)), LABELS, 0), r"scores: expected shape \[48, 64\] .* got \[2, 2\]"),
        (
            lambda m: m.update_map(np.full(SIZE, np.inf), LABELS, 0),
            "scores: expected finite ones on valid pixels, got 3",
        ),
        (lambda m: m.update_map(np.zeros(SIZE), LABELS, 0, confidence="sum"), "expected one of mean, max, got 'sum'"),
        (lambda m: InstanceMetrics(0), "smallest: expected 1 or more pixels, got 0"),
    ],
)
def test_bad_input_is_refused_and_adds_nothing(call, message):
    metrics = InstanceMetrics()
    with pytest.raises((TypeError, ValueError), match=message):
        call(metrics)
    assert metrics.compute().images == 0
