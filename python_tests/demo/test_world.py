"""Scenes to train a network on: varied, labelled, and the same for the same seed."""

import numpy as np
import pytest

from rwpm_fast.demo.world import paint_scene

SIZE = (48, 96)


def scene(seed, size=SIZE):
    return paint_scene(np.random.default_rng(seed), size)


def test_same_seed_same_picture():
    (photo, classes), (again, classes_again), (other, _) = scene(3), scene(3), scene(4)
    np.testing.assert_array_equal(photo, again)
    np.testing.assert_array_equal(classes, classes_again)
    assert (photo != other).mean() > 0.5


@pytest.mark.parametrize("size", [(48, 96), (50, 70), (16, 16)])
def test_sizes(size):
    photo, classes = scene(0, size)
    assert photo.shape == (*size, 3) and photo.dtype == np.uint8
    assert classes.shape == size and classes.dtype == np.uint8


def test_a_size_too_small_is_refused():
    with pytest.raises(ValueError, match="size: expected a height and width of 16 pixels or more, got 8 x 96"):
        scene(0, (8, 96))


def test_every_class_is_painted():
    found: dict[int, int] = {}
    for seed in range(40):
        _, classes = scene(seed)
        for kind in np.unique(classes):
            found[int(kind)] = found.get(int(kind), 0) + 1
    assert set(found) == {*range(19), 255}
    assert min(found[kind] for kind in (0, 8, 10, 13)) > 20  # road, vegetation, sky, car


def test_light_and_weather_vary():
    brightness = [scene(seed)[0].mean() for seed in range(12)]
    assert max(brightness) > 3 * min(brightness)
