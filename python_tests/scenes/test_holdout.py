"""Streets of the demo: reproducible, true to what is painted, always with an anomaly, and none of the training's."""

import numpy as np
import pytest

from rwpm_fast.demo import unseen_street
from rwpm_fast.scenes.holdout import LEAST
from rwpm_fast.scenes.labels import EGO, UNKNOWN
from rwpm_fast.scenes.render import paint_scene

SIZE = (64, 128)


@pytest.fixture(scope="module")
def streets():
    return [unseen_street(seed, SIZE) for seed in range(5)]


def test_every_street_has_enough_that_no_class_is_for(streets):
    for photo, labels in streets:
        assert photo.shape == (*SIZE, 3) and labels.shape == SIZE
        assert photo.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 1, 255}
        assert (labels == 1).mean() >= LEAST and (labels == 0).any()
    assert any((labels == 255).any() for _, labels in streets)


def test_a_seed_is_a_street(streets):
    again = unseen_street(3, SIZE)
    assert all((a == b).all() for a, b in zip(again, streets[3], strict=True))
    assert (streets[0][0] != streets[1][0]).any()


def test_labels_are_the_painted_classes(streets):
    for seed, (photo, labels) in enumerate(streets):
        for child in np.random.SeedSequence(seed).spawn(40):
            painted, class_map = paint_scene(np.random.default_rng(child), SIZE)
            if (painted == photo).all():
                break
            assert (class_map == UNKNOWN).mean() < LEAST  # a street is passed over for that alone
        assert (painted == photo).all()
        assert ((labels == 1) == (class_map == UNKNOWN)).all()
        assert ((labels == 255) == (class_map == EGO)).all()


def test_none_is_one_of_the_training(streets):
    """Training paints with ``default_rng(seed)``, scene after scene."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for _ in range(4):
            learnt, _ = paint_scene(rng, SIZE)
            assert all((learnt != photo).any() for photo, _ in streets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"seed": -1}, "seed: expected 0 or more, got -1"), ({"size": (8, 64)}, "size: expected .* 16 pixels or more")],
    ids=["seed", "size"],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        unseen_street(**arguments)
