"""Pixels of a photo, their walk step by step, and the neighbors of one of them."""

import numpy as np
import pytest
import torch

import rwpm_fast
from python_tests.helpers import manifold, relative_error
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.metrics import class_tightness
from rwpm_fast.networks import MaskLogits
from rwpm_fast.ops.settings import WalkSettings
from rwpm_fast.scoring import tightening
from rwpm_fast.scoring.tightening import nearest, photo_pixels, tighten


class PaddedNetwork(TinyNetwork):
    padded_to = 16

    def preprocess(self, photos):
        return self.pad(super().preprocess(photos), photos.shape[-2:])


class HalvedNetwork(TinyNetwork):
    def input_size(self, photo_size):
        return tuple(side // 2 for side in photo_size)

    def preprocess(self, photos):
        return super().preprocess(photos)[..., ::2, ::2]


class MirroredNetwork(TinyNetwork):
    linear_head = False
    mask_head = mirrored = True

    def decode(self, embedding_map, context=None):
        masks = self.classifier(embedding_map)  # a query for each class
        return MaskLogits(9 * torch.eye(5, 6).expand(len(masks), 5, 6), masks)


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)


@pytest.mark.parametrize("network", [TinyNetwork, PaddedNetwork, HalvedNetwork, MirroredNetwork])
def test_pixels_of_a_photo(network, photo):
    analysis = Scorer(network()).analyze(photo)
    pixels = photo_pixels(analysis)
    cell = 4 if network is HalvedNetwork else 2
    rows, columns = 24 // cell, 36 // cell
    assert pixels.cell == (cell, cell)
    expected = [(cell * (row + 0.5), cell * (column + 0.5)) for row in range(rows) for column in range(columns)]
    assert [tuple(center) for center in pixels.centers.tolist()] == expected
    in_photo = analysis.embedding_map[:, :rows, :columns]  # what follows is padding
    assert torch.equal(pixels.embeddings, in_photo.flatten(1).mT)
    segmentation = analysis.walked.segmentation
    assert pixels.classes.tolist() == [int(segmentation[int(row), int(column)]) for row, column in expected]
    assert pixels.at(0, 0) == 0 and pixels.at(23, 35) == rows * columns - 1
    assert pixels.at(cell, 2 * cell + 1) == columns + 2


def test_a_broken_embedding_is_no_pixel(photo):
    analysis = Scorer(TinyNetwork()).analyze(photo)
    whole = photo_pixels(analysis)
    with torch.inference_mode():
        analysis.embedding_map[2, 0, 1] = torch.nan
    pixels = photo_pixels(analysis)
    assert len(pixels.embeddings) == len(pixels.classes) == 12 * 18 - 1
    assert torch.equal(pixels.centers, torch.cat([whole.centers[:1], whole.centers[2:]]))
    assert pixels.at(1, 3) in (0, 1)  # the nearest that there is


def test_the_typical_pixel_is_the_median_of_its_class(photo):
    pixels = photo_pixels(Scorer(TinyNetwork()).analyze(photo))
    label = int(pixels.classes.mode().values)
    members = (pixels.classes == label).nonzero().flatten().tolist()
    unit = pixels.embeddings / pixels.embeddings.norm(dim=1, keepdim=True)
    direction = unit[members].mean(0)
    ordered = sorted(members, key=lambda place: float(unit[place] @ direction))
    assert pixels.typical(label) in ordered[(len(members) - 1) // 2 - 1 : (len(members) - 1) // 2 + 2]


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_every_step_is_that_of_a_walk_from_the_start(tolerance, monkeypatch):
    embeddings = manifold(700, 24, directions=40, noise=0.4)
    classes = torch.arange(700) % 3 - 1
    settings = WalkSettings(alpha=0.9, steps=5, temperature=0.02, tolerance=tolerance)
    measured = []
    monkeypatch.setattr(tightening, "class_tightness", lambda e, c: (measured.append(e), class_tightness(e, c))[1])
    walked, numbers = tighten(embeddings, classes, settings)
    assert len(numbers) == len(measured) == 6 and torch.equal(measured[5], walked)
    for steps, got in enumerate(measured):
        options = {"alpha": 0.9, "temperature": 0.02, "tolerance": tolerance}
        wanted = rwpm_fast.walk(embeddings, steps=steps, **options)
        assert relative_error(got, wanted) < 1e-6
        assert torch.equal(numbers[steps].spread, class_tightness(got, classes).spread)


def test_no_step_leaves_the_embeddings_as_they_are():
    embeddings = manifold(40, 6)
    walked, numbers = tighten(embeddings, torch.arange(40) % 2, WalkSettings(steps=0))
    assert torch.equal(walked, embeddings) and len(numbers) == 1


def test_nearest_are_the_largest_cosines():
    before, after = manifold(50, 6, noise=1), manifold(50, 6, noise=1, seed=1)
    found = nearest(7, before, after, 5)
    cosines = [_cosines(e.double().numpy(), 7) for e in (before, after)]
    for neighbors, own in zip(found, cosines, strict=True):
        ordered = sorted((place for place in range(50) if place != 7), key=lambda place: -own[place])
        assert neighbors.pixels == ordered[:5]
        assert neighbors.before == pytest.approx([cosines[0][place] for place in ordered[:5]])
        assert neighbors.after == pytest.approx([cosines[1][place] for place in ordered[:5]])


def _cosines(embeddings, pixel):
    return [e @ embeddings[pixel] / np.linalg.norm(e) / np.linalg.norm(embeddings[pixel]) for e in embeddings]
