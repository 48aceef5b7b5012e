"""The embedding map of a segmentation network as features."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import networks
from rwpm_fast.synboost.features import NetworkFeatures
from rwpm_fast.synboost.pipeline import imagenet_normalized
from rwpm_fast.synboost.uncertainty import perceptual_difference
from rwpm_fast.synboost.vgg import VGG19


def photos(height, width, batch=1):
    """RGB in whole numbers, and the same as feature networks take them."""
    generator = torch.Generator().manual_seed(height * width)
    values = torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)
    return values, imagenet_normalized(values / 255)


class Padded(TinyNetwork):
    """Fills its input up to multiples of 8, and marks the padding in its map."""

    padded_to = 8

    def preprocess(self, photos):
        return self.pad(photos.float(), photos.shape[2:]) + 0

    def embed(self, images):
        shown = torch.ones_like(images[:, :1])
        shown[..., 12:, :] = -100
        shown[..., 20:] = -100
        return F.avg_pool2d(shown, 2)


class Halved(TinyNetwork):
    """Takes photos at half their size; its map is their mean color."""

    def input_size(self, photo_size):
        return photo_size[0] // 2, photo_size[1] // 2

    def preprocess(self, photos):
        return F.avg_pool2d(photos.float(), 2)

    def embed(self, images):
        return F.avg_pool2d(images, 2)


@torch.no_grad()
def test_features_are_the_embedding_map():
    network = networks.load("compact")
    values, images = photos(64, 96, batch=2)
    (features,) = NetworkFeatures(network)(images)
    wanted = network.embed(network.preprocess(values))
    assert features.shape == (2, 160, 8, 12)
    torch.testing.assert_close(features, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())


@torch.no_grad()
def test_padding_is_no_feature():
    (features,) = NetworkFeatures(Padded())(photos(12, 20)[1])
    assert torch.equal(features, torch.ones(1, 1, 6, 10))


@torch.no_grad()
def test_a_map_of_a_resized_photo_covers_the_photo():
    values, images = photos(16, 32)
    (features,) = NetworkFeatures(Halved())(images)
    wanted = F.interpolate(F.avg_pool2d(values.float(), 4), (8, 16), mode="bilinear")
    torch.testing.assert_close(features, wanted, rtol=0, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, (2, 4)])
def test_the_difference_has_the_size_of_the_photo(stride):
    network = TinyNetwork()
    network.stride = stride
    images = [photos(7, size)[1][..., :9] for size in (9, 11)]
    difference = perceptual_difference(*images, NetworkFeatures(network))
    assert difference.shape == (1, 1, 7, 9) and (difference.min(), difference.max()) == (0, 1)


@torch.no_grad()
def test_a_network_in_bfloat16():
    images = [photos(16, size)[1][..., :16] for size in (16, 18)]
    wanted = perceptual_difference(*images, NetworkFeatures(TinyNetwork()))
    got = perceptual_difference(*images, NetworkFeatures(TinyNetwork().bfloat16()))
    assert got.dtype == torch.float32
    assert 0 < (got - wanted).abs().max() < 0.05


def test_other_things_are_no_network():
    with pytest.raises(TypeError, match=r"network: expected a segmentation network of rwpm_fast\.networks, got VGG19"):
        NetworkFeatures(VGG19(4))
