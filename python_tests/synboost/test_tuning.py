"""Weights tuned on one split and compared on another, against the parts that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from python_tests.synboost.parts import NO_ENSEMBLE, RESYNTHESIS, dissimilarity, small_pipeline
from python_tests.synboost.test_ensemble import labeled_photos
from python_tests.synboost.test_pipeline import random_photo
from rwpm_fast.metrics import PixelMetrics
from rwpm_fast.synboost.ensemble import (
    MAPS,
    PUBLISHED_WEIGHTS,
    ensemble_loss,
    grid_search,
    weighted_average,
)
from rwpm_fast.synboost.labels import class_weights
from rwpm_fast.synboost.tuning import compare_ensembles, ensemble_maps, learned_weights, tuned_weights


def loss_of(weights, photos):
    """Class-weighted mean over all pixels at once."""
    maps = torch.from_numpy(np.concatenate([maps.reshape(4, -1) for maps, _ in photos], axis=1))[..., None]
    labels = torch.from_numpy(np.concatenate([labels.ravel() for _, labels in photos]))[:, None]
    by_class = class_weights([labels for _, labels in photos])
    return ensemble_loss(weighted_average(maps, weights), labels, by_class).item()


def test_learned_weights_have_the_least_loss():
    photos = labeled_photos(count=4, levels=11)
    photos[3][1][:] = 255  # a photo that is void adds nothing, and divides nothing by zero
    learned = learned_weights(photos)
    assert sum(learned) == pytest.approx(1) and min(learned) > 0
    least = loss_of(learned, photos)
    assert least < loss_of(PUBLISHED_WEIGHTS, photos) - 1e-3
    for index in range(4):
        for change in (0.02, -0.02):
            other = [max(weight + change * (index == at), 0) for at, weight in enumerate(learned)]
            assert least <= loss_of(other, photos) + 1e-6
    assert learned_weights(photos, (1, 1, 1, 1)) == pytest.approx(learned, abs=5e-3)


def test_learned_weights_train_in_inference_mode_too():
    photos = labeled_photos(count=1)
    with torch.inference_mode():
        tensors = [(torch.from_numpy(maps), torch.from_numpy(labels)) for maps, labels in photos]
    assert learned_weights(tensors) == learned_weights(photos)


def test_tuned_weights_are_the_grid_searchs_and_learned_from_there():
    photos = labeled_photos(count=2)
    found = grid_search(photos)[0].weights
    assert tuned_weights(iter(photos)) == {"grid search": found, "end to end": learned_weights(photos, found)}


def test_comparison_pools_pixels():
    photos = labeled_photos(count=3, seed=1)
    rows = compare_ensembles({"grid search": (1, 2, 0, 1)}, iter(photos), fpr_rule="smiyc")
    assert [row.name for row in rows] == [*MAPS, "published", "grid search"]
    assert [row.weights for row in rows[3:]] == [(0, 0, 0, 1), PUBLISHED_WEIGHTS, (0.25, 0.5, 0, 0.25)]
    for row in rows:
        metrics = PixelMetrics("smiyc")
        for maps, labels in photos:
            metrics.update(weighted_average(torch.from_numpy(maps), row.weights), labels)
        assert row.result == metrics.compute()
    assert len({row.result.ap for row in rows}) == len(rows)


def test_maps_of_a_pipeline():
    result = small_pipeline(weights=NO_ENSEMBLE)(random_photo())
    maps = ensemble_maps(result)
    assert torch.equal(maps[0], result.probability)
    for name, values in zip(MAPS[1:], maps[1:], strict=True):
        assert torch.equal(values, getattr(result.comparison, name))


def test_maps_of_a_pipeline_without_dispersion():
    chain = small_pipeline(dissimilarity=dissimilarity(**RESYNTHESIS), weights=NO_ENSEMBLE)
    with pytest.raises(ValueError, match="got one without entropy, perceptual, distance; score the photo by"):
        ensemble_maps(chain(random_photo()))
