from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rwpm_fast
from python_tests.helpers import relative_error
from python_tests.networks.segmenter import MEAN, STD, ReferenceWalk, Segmenter, as_input, attached, own_logits
from rwpm_fast import Scorer, Walk, attach


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)


@pytest.mark.parametrize("bent", [False, True])
def test_what_the_trial_finds(bent):
    model = Segmenter(bent)
    network = attached(model)
    assert network.stride == 4
    assert network.linear_head is not bent
    assert network.name == "Segmenter"
    assert network.classes == tuple(f"class {k}" for k in range(7))
    assert not network.align_corners
    assert not model.training


def test_what_is_given_is_taken():
    given = {"stride": (4, 4), "linear_head": False, "align_corners": True, "classes": "abcdefg"}
    network = attached(**given)
    assert (network.stride, network.linear_head, network.align_corners) == ((4, 4), False, True)
    assert network.classes == tuple("abcdefg")


@pytest.mark.parametrize("bent", [False, True])
def test_without_a_walk_it_is_the_model(bent, photo):
    model = Segmenter(bent)
    analysis = Scorer(attached(model)).analyze(photo)
    torch.testing.assert_close(analysis.walked.full_logits, own_logits(model, photo), rtol=0, atol=1e-5)


def test_a_pass_ends_at_the_embedding(photo):
    model = Segmenter()
    network = attached(model)
    before = model.passes
    Scorer(network)(photo)
    assert model.passes == before


@pytest.mark.parametrize("bent", [False, True])
def test_scorer_and_the_models_own_forward_walk_alike(bent, photo):
    model, walk = Segmenter(bent), ReferenceWalk()
    network = attached(model)
    plain = own_logits(model, photo)
    scored = Scorer(network, walk=walk).analyze(photo).walked.full_logits
    walked = own_logits(network.walked(walk), photo)
    torch.testing.assert_close(walked, scored, rtol=0, atol=1e-5)
    assert (walked - plain).abs().max() > 0.01
    assert torch.equal(own_logits(model, photo), plain)

    with torch.no_grad():  # the definition: the walked map behind the head
        wanted = model.classifier[4](walk(network.embed(as_input(photo))))
    wanted = F.interpolate(wanted, photo.shape[:2], mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(walked, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bent", [False, True])
def test_the_walked_forward_has_a_gradient(bent, photo):
    network = attached(Segmenter(bent))
    network.walked(Walk(steps=3))(as_input(photo))["out"].sum().backward()
    model = network.model
    assert all(parameter.grad.abs().max() > 0 for parameter in model.classifier[4].parameters())
    through_both = model.backbone[0].weight.grad.clone()
    assert through_both.abs().max() > 0
    model.zero_grad()

    def walk_values(embedding_map, value_map):
        return Walk(steps=3)(embedding_map.detach(), value_map)

    network.walked(walk_values)(as_input(photo))["out"].sum().backward()
    assert relative_error(through_both, model.backbone[0].weight.grad) > 1e-3  # the graph had a part in it


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_precision(dtype, photo):
    model = Segmenter().to(dtype)
    network = attached(model)
    assert network.linear_head
    images = network.preprocess(torch.tensor(photo).permute(2, 0, 1)[None])
    assert images.dtype == dtype
    embedding_map = network.embed(images)
    wide = torch.promote_types(dtype, torch.float32)
    assert embedding_map.dtype == wide and network.head(embedding_map).dtype == wide
    with torch.no_grad():
        assert network.walked(Walk(steps=3))(images)["out"].dtype == dtype


def test_preprocess_may_be_a_callable(photo):
    network = attached(mean=None, std=None, preprocess=lambda photos: photos.float() / 100)
    images = network.preprocess(torch.tensor(photo).permute(2, 0, 1)[None])
    torch.testing.assert_close(images, torch.tensor(photo).permute(2, 0, 1)[None] / 100)
    assert Scorer(network)(photo).map_size == (10, 16)


def test_uint8_and_float_photos_agree(photo):
    network, pixels = attached(), torch.tensor(photo).permute(2, 0, 1)[None]
    torch.testing.assert_close(network.preprocess(pixels), as_input(photo))
    assert torch.equal(network.preprocess(pixels.float()), network.preprocess(pixels))


@pytest.mark.parametrize(
    ("head", "linear"),
    [
        (nn.Conv2d(16, 5, 1, bias=False), True),
        (nn.Sequential(nn.Dropout2d(), nn.Conv2d(16, 5, 1), nn.BatchNorm2d(5)), True),
        (nn.Conv2d(16, 5, 3, padding=1), False),
        (nn.Sequential(nn.Conv2d(16, 5, 1), nn.Upsample(scale_factor=2)), False),
        (nn.Sequential(nn.Conv2d(16, 5, 1), nn.Hardtanh(-50, 50)), False),
        (nn.Sequential(nn.Conv2d(16, 5, 1), nn.Softmax(1)), False),
        (nn.Sequential(nn.Conv2d(16, 5, 1), nn.InstanceNorm2d(5)), False),
    ],
    ids=lambda value: None if isinstance(value, bool) else re.sub(r"\s+", " ", str(value))[:40],
)
def test_linear_heads_are_told_from_others(head, linear):
    model = Segmenter()
    model.classifier[4] = head
    with torch.no_grad():
        model.classifier[2] = nn.Sequential(nn.ReLU(), Scale(40.0))
    assert attached(model).linear_head is linear


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 7, 1)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        return self.conv(x if other is None else x + other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"embedding": "classifer.2"},
            r"embedding: the model has no module 'classifer\.2'; close names: classifier\.2 \[1, 16, 32, 48\]",
        ),
        (
            {"head": "segmentation_head"},
            r"head: the model has no module .*convolutions that give maps, last first: classifier\.4 \[1, 7, 32, 48\], "
            r"classifier\.0 \[1, 16, 32, 48\], twice \[1, 24, 32, 48\], backbone\.0 \[1, 24, 32, 48\]$",
        ),
        ({"embedding": ""}, "embedding: the model has no module ''"),
        (
            {"head": "aux_classifier"},
            "head: expected a module that is called once in a pass, 'aux_classifier' is never",
        ),
        ({"embedding": "twice"}, "embedding: expected a module that is called once .*, 'twice' is called 2 times"),
        (
            {"embedding": "classifier.0"},
            r"head: 'classifier\.4' reads shape .*, which is not what 'classifier\.0' gives, shape \[1, 16, 32, 48\]; "
            r"it is what 'classifier\.2' and 'classifier\.3' give: take one as embedding",
        ),
        ({"embedding": "classifier.1"}, r"it is what 'classifier\.2' and 'classifier\.3' give"),  # a ReLU in place
        (
            {"embedding": "backbone"},
            r"'classifier\.4' reads shape \[1, 16, 32, 48\], .* 'backbone' gives, shape \[1, 24",
        ),
        ({"mean": None}, "mean: expected three numbers, got None"),
        ({"std": (1, 0, 1)}, "std: expected three positive numbers, got"),
        ({"mean": None, "std": None}, r"preprocess: expected either a callable or mean and std, got neither; ImageNet"),
        ({"preprocess": torch.relu}, "preprocess: expected either a callable or mean and std, got both"),
        ({"classes": ["road"]}, r"classes: expected 7 names for the 7 logits of 'classifier\.4', got 1"),
    ],
)
def test_errors_tell_what_to_take(changes, message):
    with pytest.raises(ValueError, match=message):
        attached(**changes)


def test_trial_sizes_that_the_stride_does_not_divide():
    assert attached(trial_size=(130, 190)).stride == 4


def test_other_types():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got dict"):
        attach({}, "a", "b", mean=MEAN, std=STD)
    with pytest.raises(TypeError, match="preprocess: expected a callable, got int"):
        attached(mean=None, std=None, preprocess=3)


def test_an_embedding_that_is_no_map():
    model = Segmenter()
    model.classifier = nn.Sequential(nn.Conv2d(24, 16, 1), Flat(), nn.Unflatten(1, (16, 1, 1)), nn.Conv2d(16, 7, 1))
    message = r"expected a map \[B, D, h, w\] from 'classifier\.1', got shape \[1, 16\]; .*give maps, last first: "
    with pytest.raises(ValueError, match=message):
        attached(model, embedding="classifier.1", head="classifier.3")


def test_a_head_that_gives_no_logits():
    model = Segmenter()
    model.classifier.add_module("5", nn.Flatten())
    model.classifier.add_module("6", nn.Unflatten(1, (7, 32, 48)))
    with pytest.raises(
        ValueError, match=r"expected logits \[B, K, h, w\] from 'classifier\.5', got shape \[1, 10752\]"
    ):
        attached(model, head="classifier.5")


class Functional(nn.Module):
    """Works on the map between embedding and head without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.top, self.pair = nn.Conv2d(3, 16, 4, stride=4), nn.Conv2d(16, 7, 1), Pair()

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        return self.top(F.relu(features)) + self.pair(features, features)


def test_a_head_behind_a_function():
    with pytest.raises(ValueError, match="no module gives it: take as head a module that holds all that follows"):
        attached(Functional(), embedding="body", head="top")


def test_a_head_that_reads_more_than_the_map():
    with pytest.raises(
        ValueError, match=r"'pair' called with the map shape \[1, 16, .* and not what it gives in the mod"
    ):
        attached(Functional(), embedding="body", head="pair")


def test_a_pass_that_fails():
    message = r"model: a pass over a trial photo shape \[1, 1, 128, 192\] failed \(.*or give size .*, a trial_size"
    with pytest.raises(ValueError, match=message):
        attached(mean=None, std=None, preprocess=lambda photos: photos[:, :1].float())


def test_a_map_of_no_one_stride():
    model = Segmenter()
    model.backbone[0].stride = (4, 8)
    with pytest.raises(ValueError, match=r"stride: the map of an input \[128, 192\] is \[32, 24\], .* no one stride"):
        attached(model)
    assert attached(model, stride=(4, 8)).stride == (4, 8)
    with pytest.raises(ValueError, match=r"an input \[128, 192\] is \[32, 24\], which no stride 4 gives"):
        attached(model, stride=4)


def test_a_module_left_out_later_is_told(photo):
    network = attached()
    network.model.classifier.forward = lambda x: x
    with pytest.raises(ValueError, match=r"embedding: 'classifier\.2' was not called in this pass"):
        Scorer(network)(photo)
    with pytest.raises(ValueError, match=r"head: 'classifier\.4' was not called in this pass"):
        network.walked(Walk())


def test_it_is_exported():
    assert "attach" in rwpm_fast.__all__


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(value):
    model = Segmenter()
    name, weight = next(iter(model.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = value
    with pytest.raises(ValueError, match=f"weights: Segmenter has entries that are not finite: {name}"):
        attached(model)
