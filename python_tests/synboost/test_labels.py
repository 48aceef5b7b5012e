"""Swapped instances, void regions and class weights against their definitions."""

import doctest
import math
from collections import Counter

import numpy as np
import pytest
import torch

from rwpm_fast.synboost import labels as module
from rwpm_fast.synboost.labels import (
    ANOMALOUS_IDS,
    EQUAL_SWAP_IDS,
    IGNORED_IDS,
    LABEL_IDS,
    SWAP_IDS,
    class_weights,
    swap_instances,
    train_ids,
    void_labels,
)

SIZE = (24, 36)


def ground_truth(objects=7, seed=0):
    """Label ids and instance ids of a street with some objects, a group of cars and void regions."""
    rng = np.random.default_rng(seed)
    semantics = rng.choice(np.array([0, 1, 4, 5, 7, 11, 23], np.uint8), SIZE)
    semantics[:4, :6] = 26  # a group of cars has the class itself as its instance id
    instances = semantics.astype(np.int32)
    for index in range(objects):
        row, column = 6 + 8 * (index // 4), 8 * (index % 4)
        known = int(rng.choice([24, 25, 26, 27, 33]))
        semantics[row : row + 5, column : column + 6] = known
        instances[row : row + 5, column : column + 6] = 1000 * known + index
    return semantics, instances


def swap(seed=0, objects=7, **settings):
    semantics, instances = ground_truth(objects)
    return semantics, instances, *swap_instances(semantics, instances, np.random.default_rng(seed), **settings)


def swapped_classes(semantics, instances, altered):
    """The class before and after of every object that changed."""
    ids = np.unique(instances[altered != semantics])
    return {int(i): (int(semantics[instances == i][0]), int(altered[instances == i][0])) for i in ids}


# Train ids


def test_train_ids_are_those_of_cityscapes():
    label_map = np.arange(34, dtype=np.uint8).reshape(2, 17)
    expected = [LABEL_IDS.index(i) if i in LABEL_IDS else 255 for i in range(34)]
    assert len(set(LABEL_IDS)) == 19 and train_ids(label_map).ravel().tolist() == expected
    assert train_ids(torch.from_numpy(label_map)).dtype == np.uint8
    # Anchors of the mapping: road, traffic sign, sky, person, car, train, bicycle.
    assert [expected[i] for i in (7, 20, 23, 24, 26, 31, 33)] == [0, 7, 10, 11, 13, 16, 18]


# Swapped instances


def test_list_of_new_classes():
    assert len(SWAP_IDS) == 25
    assert Counter(SWAP_IDS) == {
        7: 3, 8: 1, 11: 1, 12: 1, 13: 1, 20: 1, 21: 1, 22: 1, 24: 3, 25: 1, 26: 7, 27: 1, 28: 1, 32: 1, 33: 1,
    }  # fmt: skip
    assert sorted(EQUAL_SWAP_IDS) == sorted(set(SWAP_IDS)) and set(SWAP_IDS) < set(LABEL_IDS)


@pytest.mark.parametrize("new_ids", [SWAP_IDS, EQUAL_SWAP_IDS, (26, 24)], ids=["list", "equal", "two"])
def test_altered_pixels_are_the_labeled_ones(new_ids):
    altered_objects = 0
    for seed in range(60):
        semantics, instances, altered, labels = swap(seed, new_ids=new_ids)
        assert labels.dtype == np.uint8 and altered.dtype == semantics.dtype
        assert ((labels == 1) == (altered != semantics)).all() and set(np.unique(labels)) <= {0, 1}
        objects = np.unique(instances[instances >= 24000])
        changed = swapped_classes(semantics, instances, altered)
        assert set(changed) < set(objects.tolist())  # objects alone, and never all
        for instance, (old, new) in changed.items():
            assert old != new and new in new_ids
            assert (altered[instances == instance] == new).all() and (labels[instances == instance] == 1).all()
        altered_objects += len(changed)
    assert altered_objects > 60


def test_number_of_altered_objects_is_uniform():
    """floor(7 U): each of 0 to 6 in a seventh of the draws, and every object in 3 / 7 of them."""
    semantics, instances = ground_truth()
    rng = np.random.default_rng(0)
    draws, counts, chosen = 1400, Counter(), Counter()
    for _ in range(draws):
        altered, _ = swap_instances(semantics, instances, rng)
        changed = swapped_classes(semantics, instances, altered)
        counts[len(changed)] += 1
        chosen.update(list(changed))
    assert set(counts) == set(range(7))
    assert all(abs(count - draws / 7) < 5 * math.sqrt(draws * 6 / 49) for count in counts.values())
    assert len(chosen) == 7
    assert all(abs(count - draws * 3 / 7) < 5 * math.sqrt(draws * 12 / 49) for count in chosen.values())


@pytest.mark.parametrize("new_ids", [SWAP_IDS, EQUAL_SWAP_IDS], ids=["list", "equal"])
def test_new_classes_are_drawn_as_often_as_they_are_listed(new_ids):
    instances = np.repeat(26000 + np.arange(200), 2)[None]
    semantics = np.full_like(instances, 26)
    rng, drawn = np.random.default_rng(1), Counter()
    for _ in range(40):
        altered, labels = swap_instances(semantics, instances, rng, new_ids=new_ids)
        drawn.update(altered[0, ::2][labels[0, ::2] == 1].tolist())
    total, others = sum(drawn.values()), [new for new in new_ids if new != 26]
    assert total > 2000 and set(drawn) == set(others)
    for new, times in Counter(others).items():
        share = times / len(others)
        assert abs(drawn[new] - total * share) < 5 * math.sqrt(total * share * (1 - share))


def test_objects_are_the_instances_of_five_digits():
    instances = np.array([[24, 23999, 24000, 26001, 33999, 34000]])
    semantics = np.array([[24, 23, 24, 26, 33, 34]])
    altered = np.zeros(6, bool)
    for seed in range(40):
        altered |= swap_instances(semantics, instances, np.random.default_rng(seed))[1][0] == 1
    assert altered.tolist() == [False, False, True, True, True, False]


def test_equal_generators_give_equal_swaps():
    one, same, other = swap(3), swap(3), swap(4)
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert (one[2] != other[2]).any()


def test_arguments_keep_their_values_and_tensors_are_taken():
    semantics, instances = ground_truth()
    before = semantics.copy(), instances.copy()
    arrays = swap_instances(semantics, instances, np.random.default_rng(5))
    assert (semantics == before[0]).all() and (instances == before[1]).all()
    tensors = swap_instances(
        torch.from_numpy(semantics), torch.from_numpy(instances).to(torch.int64), np.random.default_rng(5)
    )
    narrow = swap_instances(semantics, instances.astype(np.uint16), np.random.default_rng(5))
    for result in (tensors, narrow):
        assert all((a == b).all() for a, b in zip(arrays, result, strict=True))


@pytest.mark.parametrize("objects", [0, 1])
def test_too_few_objects_to_swap(objects):
    for seed in range(5):
        semantics, _, altered, labels = swap(seed, objects)
        assert (altered == semantics).all() and not labels.any()


def test_dynamic_pixels_may_be_marked_too():
    semantics, _, altered, labels = swap(3, anomalous=(5,))
    assert ((labels == 1) == ((altered != semantics) | (semantics == 5))).all()
    assert (labels[semantics == 5] == 1).all() and (labels[altered != semantics] == 1).all()
    assert (altered == swap(3)[2]).all()


def test_flip_of_the_maps_flips_the_result():
    semantics, instances = ground_truth()
    altered, labels = swap_instances(semantics, instances, np.random.default_rng(2))
    flipped = swap_instances(semantics[:, ::-1], instances[:, ::-1], np.random.default_rng(2))
    assert labels.any() and (labels != labels[:, ::-1]).any()
    assert (flipped[0] == altered[:, ::-1]).all() and (flipped[1] == labels[:, ::-1]).all()
    assert (void_labels(semantics[:, ::-1]) == void_labels(semantics)[:, ::-1]).all()


# Void regions


def test_void_labels_by_default():
    assert (ANOMALOUS_IDS, IGNORED_IDS) == ((0, 4, 5, 29, 30), (1, 2, 3))
    labels = void_labels(np.arange(34, dtype=np.uint8)[None])
    expected = [1 if i in {0, 4, 5, 29, 30} else 255 if i in {1, 2, 3} else 0 for i in range(34)]
    assert labels.dtype == np.uint8 and labels[0].tolist() == expected


def test_void_sets_are_settings():
    label_map = np.array([[0, 5, 7, 29, 255]])
    labels = void_labels(torch.from_numpy(label_map), anomalous=[5], ignored={0, 255})
    assert labels.tolist() == [[255, 1, 0, 0, 255]]
    assert void_labels(label_map[:, :4], anomalous=(), ignored=()).tolist() == [[0, 0, 0, 0]]


# Class weights


def test_class_weights_count_every_labeled_pixel():
    rng = np.random.default_rng(0)
    maps = [
        rng.choice(np.array([0, 1, 255], np.uint8), size, p=[0.8, 0.05, 0.15]) for size in [(7, 9), (64, 33), (1, 5)]
    ]
    pooled = np.concatenate([labels.ravel() for labels in maps])
    shares = [(pooled == label).sum() / (pooled != 255).sum() for label in (0, 1)]
    expected = [1 / math.log(1.02 + share) for share in shares]
    assert class_weights(iter(maps)) == pytest.approx(expected, abs=1e-12)
    assert class_weights(torch.from_numpy(labels) for labels in maps) == pytest.approx(expected, abs=1e-12)
    void = np.full((50, 50), 255, np.uint8)
    assert class_weights([*maps, void]) == class_weights(maps)


def test_class_weights_of_the_released_configuration():
    """With void regions 11.2 % of its pixels are anomalous, which gives the stored weights."""
    labels = np.repeat(np.array([0, 1], np.uint8), [88754, 11246]).reshape(100, 1000)
    assert class_weights([labels]) == pytest.approx((1.54843156, 8.03912212), rel=1e-4)


def test_class_weights_of_one_class_are_finite():
    assert class_weights([np.zeros((2, 2), bool)]) == pytest.approx((1 / math.log(2.02), 1 / math.log(1.02)))


# Errors


CAR = np.full((2, 2), 26), np.full((2, 2), 26000)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train_ids(np.array([[7, 34, 255]])), ValueError, "label ids from 0 to 33, got 34, 255"),
        (lambda: train_ids(np.array([[-1]])), ValueError, "label ids from 0 to 33, got -1"),
        (lambda: train_ids(np.ones((2, 2))), TypeError, "label_map: expected integers, got float64"),
        (lambda: swap_instances(CAR[0], CAR[1][:1], RNG), ValueError, r"instances: expected the shape \[2, 2\]"),
        (lambda: swap_instances(CAR[0], CAR[1] / 2, RNG), TypeError, "instances: expected integers"),
        (
            lambda: swap_instances(CAR[0] - 13, CAR[1], RNG),
            ValueError,
            "label_map: expected class 26 where instances are 26000, got 13; 4 pixels disagree",
        ),
        (lambda: swap_instances(*CAR, RNG, new_ids=(26, 26)), ValueError, "new_ids: expected .* one of them not 26"),
        (lambda: swap_instances(*CAR, RNG, new_ids=()), ValueError, r"new_ids: expected .* got \[\]"),
        (
            lambda: swap_instances(CAR[0].astype(np.uint8), CAR[1], RNG, new_ids=(7, 300)),
            ValueError,
            "new_ids: expected label ids from 0 to 255",
        ),
        (
            lambda: void_labels(np.array([[7, 77]])),
            ValueError,
            r"label_map: expected the values .* got 77 \(1",
        ),
        (lambda: void_labels(np.ones((1, 1)), ignored=(1,)), TypeError, "label_map: expected integers"),
        (lambda: void_labels(CAR[0], ignored=(5,)), ValueError, r"ignored: .* got \[5\] in both"),
        (lambda: class_weights([np.array([[0]]), np.array([[2]])]), ValueError, "0, 1 and 255, got 2 in photo 1"),
        (lambda: class_weights([np.array([[255]])]), ValueError, "pixels labeled 0 or 1, got none among 1 pixels"),
        (lambda: class_weights([]), ValueError, "pixels labeled 0 or 1, got none among 0 pixels"),
        (lambda: class_weights([np.array([[0.5]])]), TypeError, "labels: expected integers, got float64"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_examples():
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
