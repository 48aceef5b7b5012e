"""Files of the dissimilarity network: layouts, variants, what does not fit."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from python_tests.synboost.variants import (
    ALL_FLAGS,
    NARROW,
    every_variant,
    narrow,
    random_inputs,
    released,
)
from rwpm_fast.synboost.dissimilarity import DissimilarityNet


def same(network: nn.Module, other: nn.Module) -> bool:
    state, others = network.state_dict(), other.state_dict()
    return state.keys() == others.keys() and all(torch.equal(state[name], others[name]) for name in state)


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


LAYOUTS = {
    "released": lambda network: released(network).state_dict(),
    "released, parallel": lambda network: {"state_dict": prefixed(released(network).state_dict(), "module.")},
    "own": lambda network: network.state_dict(),
    "own, among others": lambda network: {"network": network.state_dict(), "epoch": 3},
}


@every_variant
@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoints(tmp_path, layout, flags):
    network = narrow(**flags)
    torch.save(LAYOUTS[layout](network), tmp_path / "w.pth")
    loaded = DissimilarityNet.load(tmp_path / "w.pth", **flags, width=NARROW)
    assert same(loaded, network)
    assert not loaded.training


def test_checkpoint_with_a_frozen_image_encoder(tmp_path):
    torch.save(narrow().state_dict(), tmp_path / "w.pth")
    network = DissimilarityNet.load(tmp_path / "w.pth", freeze_vgg=True, width=NARROW)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in network.state_dict() if not name.startswith("image_encoder.")}


def test_released_names_keep_their_place(tmp_path):
    """Two names that were mixed up would not be noticed where their shapes are equal, if both ways mixed them up."""
    network = narrow()
    state = released(network).state_dict()
    pairs = {
        "vgg_encoder.layer4.5.weight": network.image_encoder.features[21].weight,
        "conv1.0.weight": network.decoder[0].first.weight,
        "conv13.norm2.beta.weight": network.decoder[1].second_norm.beta.weight,
        "tconv1.bias": network.decoder[0].upsample.bias,
        "tconv3.bias": network.decoder[1].upsample.bias,
        "conv7.weight": network.fusions[3].weight,
    }
    assert all(state[name] is not None and torch.equal(state[name], tensor) for name, tensor in pairs.items())


@every_variant
@pytest.mark.parametrize("layout", ["released", "own"])
def test_checkpoint_of_another_variant(tmp_path, layout, flags):
    torch.save(LAYOUTS[layout](narrow(**flags)), tmp_path / "w.pth")
    for others in ALL_FLAGS:
        if sum(others[flag] != flags[flag] for flag in flags) not in (1, 3):
            continue
        with pytest.raises(ValueError, match="weights: expected the network") as error:
            DissimilarityNet.load(tmp_path / "w.pth", **others, width=NARROW)
        wanted, got = re.search("expected the network (.*), got .* of the one (.*); load", str(error.value)).groups()
        assert (wanted, got) == (described(others), described(flags))
        advice = re.search(r"load it with (.*)$", str(error.value))[1]
        assert advice == ", ".join(f"{flag}={value}" for flag, value in flags.items())


def described(flags: dict[str, bool]) -> str:
    words = zip(("dispersion", "SPADE", "image correlation"), flags.values(), strict=True)
    return ", ".join(f"{'with' if value else 'without'} {word}" for word, value in words)


@pytest.mark.parametrize("layout", ["released", "own"])
@pytest.mark.parametrize("spade", [True, False])
def test_dispersion_encoder_that_was_never_used(tmp_path, layout, spade):
    """The released class has one also where it is told to read no dispersion; its biases are then as initialized."""
    network = narrow(spade=spade)
    for name, parameter in network.dispersion_encoder.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    torch.save(LAYOUTS[layout](network), tmp_path / "w.pth")
    loaded = DissimilarityNet.load(tmp_path / "w.pth", dispersion=False, spade=spade, width=NARROW)
    assert same(loaded.image_encoder, network.image_encoder) and same(loaded.decoder, network.decoder)
    assert same(DissimilarityNet.load(tmp_path / "w.pth", spade=spade, width=NARROW), network)
    with pytest.raises(ValueError, match=f"load it with dispersion=False, spade={spade}"):
        DissimilarityNet.load(tmp_path / "w.pth", dispersion=False, spade=not spade, width=NARROW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv11.weight": None}, r"does not fit DissimilarityNet: missing: conv11\.weight$"),
        ({"conv7.bias": torch.zeros(3)}, r"conv7\.bias has shape \[3\], expected \[32\]$"),
        ({"conv99.bias": torch.zeros(3)}, r"unexpected: conv99\.bias$"),
        ({"tconv2.bias": torch.full((8,), torch.nan)}, r"tconv2\.bias has entries that are not finite$"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    state = released(narrow()).state_dict() | change
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        DissimilarityNet.load(tmp_path / "w.pth", width=NARROW)


def test_files_that_are_none_of_it(tmp_path):
    whole = tmp_path / "w.pth"
    torch.save(narrow().state_dict(), whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"weights: .*cut\.pth, which is none or is cut short"):
        DissimilarityNet.load(tmp_path / "cut.pth", width=NARROW)
    torch.save({"features.0.weight": torch.zeros(3), "classifier.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="weights of another network: it has 0 of the 116 entries of DissimilarityNet"):
        DissimilarityNet.load(tmp_path / "other.pth", width=NARROW)
    with pytest.raises(FileNotFoundError, match="absent"):
        DissimilarityNet.load(tmp_path / "absent.pth", width=NARROW)
    with pytest.raises(ValueError, match=r"mismatched: decoder\.0\.first\.bias has shape \[16\], expected \[32\]"):
        DissimilarityNet.load(whole, width=2 * NARROW)


VGG16 = [64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool"]
VGG13 = [64, 64, "pool", 128, 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"]


def vgg(layers: list[int | str]) -> nn.Module:
    """A VGG of width 4 laid out as torchvision does."""
    network, inputs = nn.Sequential(), 3
    for layer in layers:
        if layer == "pool":
            network.append(nn.MaxPool2d(2))
        else:
            network.append(nn.Conv2d(inputs, layer * NARROW // 64, 3, padding=1)).append(nn.ReLU())
            inputs = layer * NARROW // 64
    return nn.ModuleDict({"features": network, "classifier": nn.Sequential(nn.Linear(7, 3))})


@torch.inference_mode()
def test_image_encoder_from_vgg16(tmp_path):
    original, network, image = vgg(VGG16), narrow(freeze_vgg=True), random_inputs(1, 16, 24)[0]
    decoder = {name: tensor.clone() for name, tensor in network.decoder.state_dict().items()}
    torch.save(original.state_dict(), tmp_path / "vgg16.pth")
    network.load_vgg16(tmp_path / "vgg16.pth")
    for features, layers in zip(network.image_encoder(image), (4, 9, 16, 23), strict=True):  # relu1_2 .. relu4_3
        torch.testing.assert_close(features, original["features"][:layers](image))
    assert all(torch.equal(tensor, decoder[name]) for name, tensor in network.decoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.image_encoder.parameters())


def test_image_encoder_from_another_network(tmp_path):
    network = narrow()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save(vgg(VGG13).state_dict(), tmp_path / "vgg13.pth")
    with pytest.raises(ValueError, match=r"does not fit vgg16: missing: features\.14"):
        network.load_vgg16(tmp_path / "vgg13.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
