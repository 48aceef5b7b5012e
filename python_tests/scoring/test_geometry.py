from __future__ import annotations

import numpy as np
import pytest
import torch

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.networks import Network
from rwpm_fast.scoring.geometry import MapGeometry


class Padded(Network):
    stride = 4
    padded_to = 32


class Resized(Padded):
    mirrored = True

    def input_size(self, photo_size):
        return tuple(2 * side for side in photo_size)


class Plain(Network):
    stride = 8


def geometry(network, image_size, map_size):
    return MapGeometry.from_network(network, image_size, map_size)


def test_sizes_are_those_of_the_network():
    assert geometry(Plain(), (33, 50), (5, 7)) == MapGeometry((33, 50), (33, 50), (33, 50), (5, 7))
    assert geometry(Resized(), (16, 20), (8, 16)) == MapGeometry((16, 20), (32, 40), (32, 64), (8, 16), mirrored=True)


@pytest.mark.parametrize("padding", [True, False])
def test_a_map_of_nothing_but_image_has_no_mask(padding):
    assert geometry(Plain(), (33, 50), (5, 7)).graph_mask(None, padding=padding) is None
    assert geometry(Padded(), (64, 96), (16, 24)).graph_mask(None, padding=padding) is None


def test_padding_is_left_out():
    sizes = geometry(Padded(), (33, 50), (16, 16))
    assert sizes.graph_mask(None, padding=True) is None
    mask = sizes.graph_mask(None, padding=False)
    assert mask.shape == (1, 16, 16)
    assert mask[0, :9, :13].all() and mask.sum() == 9 * 13  # 33 rows reach into the ninth, 50 columns into the 13th


def test_mask_of_the_image():
    image = torch.ones(33, 50, dtype=torch.bool)
    image[:, :7] = False
    sizes = geometry(Padded(), (33, 50), (16, 16))
    with_padding, without = (sizes.graph_mask(image, padding=p)[0] for p in (True, False))
    assert not with_padding[:9, 0].any() and with_padding.sum() == 16 * 16 - 9
    assert not without[:, 0].any() and without[:9, 1:13].all() and without.sum() == 9 * 12


def test_mask_of_both_views():
    image = torch.ones(16, 20, dtype=torch.bool)
    image[:, :4] = False
    plain, mirrored = geometry(Resized(), (16, 20), (8, 16)).graph_mask(image, padding=False)
    assert not plain[:, :2].any() and plain[:, 2:10].all() and not plain[:, 10:].any()
    assert mirrored[:, :8].all() and not mirrored[:, 8:].any()


def test_edges():
    assert geometry(Plain(), (100, 200), (13, 25)).image_edges(2) == ([0, 46, 100], [0, 96, 200])
    assert geometry(Padded(), (64, 96), (16, 24)).image_edges(4) == ([0, 16, 32, 48, 64], [0, 24, 48, 72, 96])
    # Sub-maps 16 rows high and wide: of 33 x 50 the last rows and columns hold padding alone.
    assert geometry(Padded(), (33, 50), (16, 16)).image_edges(4) == ([0, 16, 32, 33], [0, 16, 32, 48, 50])
    assert geometry(Padded(), (30, 30), (8, 8)).image_edges(1) == ([0, 30], [0, 30])
    assert geometry(Resized(), (16, 20), (8, 16)).image_edges(2) == ([0, 8, 16], [0, 16, 20])


class Counting(TinyNetwork):
    """Counts how often it is asked for sizes."""

    def __init__(self):
        super().__init__()
        self.asked = {"input_size": 0, "padded_size": 0}

    def input_size(self, photo_size):
        self.asked["input_size"] += 1
        return photo_size

    def padded_size(self, photo_size):
        self.asked["padded_size"] += 1
        return photo_size


@pytest.mark.parametrize("images", [1, 3])
def test_sizes_are_asked_once_an_image(images):
    network = Counting()
    scorer = Scorer(network, walk=Walk(steps=2, parts=2), calibrated=True, walk_padding=False)
    for seed in range(images):
        image = np.random.default_rng(seed).integers(0, 256, (24, 36, 3), dtype=np.uint8)
        analysis = scorer.analyze(image, np.ones((24, 36), bool))
        for prediction in (analysis.plain, analysis.walked):
            assert prediction.score("energy").shape == prediction.segmentation.shape == (24, 36)
        Scorer(network).analyze_embedded(analysis.embedded)
    assert network.asked == {"input_size": images, "padded_size": images}


@pytest.mark.parametrize("sizes", [((48, 64), (48, 64), (48, 64), (24, 32)), ((48, 64), (30, 43), (36, 50), (18, 25))])
def test_image_and_map_lie_over_each_other(sizes):
    geometry = MapGeometry(*sizes)
    rows, columns = (torch.linspace(0, 1, side) for side in geometry.image_size)
    ramps = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]  # [1, 2, H, W]
    map_ = geometry.to_map(ramps)
    assert map_.shape[2:] == geometry.map_size and map_.min() >= 0 and map_.max() <= 1
    difference = (geometry.to_image(map_) - ramps).abs()
    assert difference.max() < 0.05 and difference[..., 4:-4, 4:-4].max() < 0.025  # a map pixel is 1/18 high
