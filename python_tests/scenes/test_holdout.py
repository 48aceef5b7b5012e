"""Hold-out scenes are reproducible, labeled as they are rendered, never without an anomaly and never trained on."""

import numpy as np
import pytest

from rwpm_fast import scenes as public
from rwpm_fast.data import frames
from rwpm_fast.scenes import EGO, UNKNOWN, render_holdout_scene, render_scene
from rwpm_fast.scenes.holdout import MIN_ANOMALY_SHARE

SIZE = (64, 128)


@pytest.fixture(scope="module")
def scenes():
    return [render_holdout_scene(seed, SIZE) for seed in range(5)]


def test_every_scene_has_enough_of_unknown_objects(scenes):
    for photo, labels in scenes:
        assert photo.shape == (*SIZE, 3) and labels.shape == SIZE
        assert photo.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 1, 255}
        assert (labels == 1).mean() >= MIN_ANOMALY_SHARE and (labels == 0).any()
    assert any((labels == 255).any() for _, labels in scenes)


def test_a_seed_gives_the_same_scene(scenes):
    again = render_holdout_scene(3, SIZE)
    assert all((a == b).all() for a, b in zip(again, scenes[3], strict=True))
    assert (scenes[0][0] != scenes[1][0]).any()


def test_labels_are_the_rendered_classes(scenes):
    for seed, (photo, labels) in enumerate(scenes):
        for child in np.random.SeedSequence(seed).spawn(40):
            rendered, class_map = render_scene(np.random.default_rng(child), SIZE)
            if (rendered == photo).all():
                break
            assert (class_map == UNKNOWN).mean() < MIN_ANOMALY_SHARE  # the only reason to pass over a scene
        assert (rendered == photo).all()
        assert ((labels == 1) == (class_map == UNKNOWN)).all()
        assert ((labels == 255) == (class_map == EGO)).all()


def test_no_scene_is_one_of_the_training(scenes):
    """Training renders with ``default_rng(seed)``, scene after scene."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for _ in range(4):
            trained, _ = render_scene(rng, SIZE)
            assert all((trained != photo).any() for photo, _ in scenes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"seed": -1}, "seed: expected 0 or more, got -1"), ({"size": (8, 64)}, "size: expected .* 16 pixels or more")],
    ids=["seed", "size"],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_holdout_scene(**arguments)


@pytest.mark.parametrize("size", [(16, 16), (40, 30), (33, 97)], ids=str)
def test_any_size(size):
    photo, labels = render_holdout_scene(1, size)
    assert photo.shape == (*size, 3) and labels.shape == size
    assert (labels == 1).any() and photo.flags.c_contiguous and labels.flags.writeable


def test_arrays_are_those_of_the_data_sets():
    assert (public.INLIER, public.ANOMALY, public.VOID) == (frames.INLIER, frames.ANOMALY, frames.VOID) == (0, 1, 255)
    assert set(public.__all__) <= set(dir(public))
