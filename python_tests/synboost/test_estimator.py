"""The function that Fishyscapes' evaluation calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from python_tests.synboost.parts import small_pipeline
from rwpm_fast.synboost.estimator import fishyscapes_estimator


@pytest.fixture(scope="module")
def pipeline():
    return small_pipeline()


@pytest.mark.parametrize("size", [(64, 128), (33, 65), (75, 41), (2, 3)], ids=lambda size: "x".join(map(str, size)))
def test_an_anomaly_map_in_the_photos_size(pipeline, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    score = fishyscapes_estimator(pipeline)(image)
    assert isinstance(score, torch.Tensor) and score.device.type == "cpu"
    assert score.dtype == torch.float32 and score.shape == size
    assert np.array_equal(score.numpy(), pipeline(image).score.numpy())


@pytest.mark.parametrize("color", [0, 77, 255])
def test_a_single_color(pipeline, color):
    score = fishyscapes_estimator(pipeline)(np.full((35, 51, 3), color, np.uint8))
    assert score.dtype == torch.float32 and score.shape == (35, 51) and score.isfinite().all()


class Convertible:
    """A tensor of another library."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.image


def test_what_converts_to_an_array(pipeline):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    expected = pipeline(image).score
    for form in (torch.tensor(image), Convertible(image)):
        assert torch.equal(fishyscapes_estimator(pipeline)(form), expected)


def test_bad_images(pipeline):
    worker = fishyscapes_estimator(pipeline)
    for image in (np.zeros((3, 20, 30), np.uint8), np.zeros((20, 30), np.uint8), np.zeros((0, 30, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"image: expected shape \[H, W, 3\] with at least one pixel, got \["):
            worker(image)
    with pytest.raises(TypeError, match="image: expected uint8, got float64"):
        worker(np.zeros((20, 30, 3)))
