"""The stacks of VGG16 and VGG19: layout, sizes and files; with narrow ones where the widths do not matter."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from python_tests.conformance import missing
from python_tests.networks.weight_rule import weights_by_rule
from python_tests.places import CONFORMANCE
from rwpm_fast.synboost import vgg
from rwpm_fast.synboost.vgg import VGG16, VGG19

MANIFESTS = sorted((CONFORMANCE / "manifests").glob("synboost_vgg19*.json"))

# Indices of the convolutions in torchvision's files, those before and behind the last tap.
CONVOLUTIONS = {
    VGG16: ([0, 2, 5, 7, 10, 12, 14, 17, 19, 21], [24, 26, 28]),
    VGG19: ([0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28], [30, 32, 34]),
}
KINDS = ("weight", "bias")


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(vgg, "WIDTHS", (2, 3, 4, 5, 6))


def by_rule(kind):
    network = kind()
    network.load_state_dict(weights_by_rule(network.state_dict()))
    return network.eval()


def torchvision_file(kind):
    """What torchvision's file of a network holds: all convolutions and the classifier."""
    later = [f"features.{i}.{part}" for i in CONVOLUTIONS[kind][1] for part in KINDS]
    classifier = [f"classifier.{i}.{part}" for i in (0, 3, 6) for part in KINDS]
    return by_rule(kind).state_dict() | {name: torch.ones(2) for name in later + classifier}


def sliced(kind):
    network = by_rule(kind)
    return {network.slice_names()[name]: tensor for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    "manifest", MANIFESTS or [pytest.param(None, marks=missing("manifests"))], ids=lambda path: path and path.stem
)
def test_slices_are_those_of_the_manifest(manifest):
    with torch.device("meta"):
        network = VGG19()
    names = network.slice_names()
    got = [[names[name], [list(t.shape), str(t.dtype)]] for name, t in network.state_dict().items()]
    wanted = json.loads(manifest.read_text())
    assert got == [[name, [shape, f"torch.{dtype}"]] for name, (shape, dtype) in wanted.items()]


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_names_are_those_of_torchvision(kind):
    with torch.device("meta"):
        network = kind()
    assert list(network.state_dict()) == [f"features.{i}.{part}" for i in CONVOLUTIONS[kind][0] for part in KINDS]


@pytest.mark.parametrize(("kind", "parameters"), [(VGG16, 7_635_264), (VGG19, 12_944_960)])
def test_number_of_parameters(kind, parameters):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in kind().parameters()) == parameters


@pytest.mark.parametrize("kind", [VGG16, VGG19])
def test_shapes_of_the_taps(kind):
    with torch.device("meta"):
        features = kind()(torch.empty(1, 3, 256, 512))
    wanted = [(64, 256, 512), (128, 128, 256), (256, 64, 128), (512, 32, 64), (512, 16, 32)]
    assert [tuple(f.shape[1:]) for f in features] == wanted[: len(features)]
    assert len(features) == len(kind.taps)


@pytest.mark.parametrize("size", [(37, 50), (16, 17), (1, 1)])
@pytest.mark.parametrize("kind", [VGG16, VGG19])
@torch.no_grad()
def test_features_are_those_of_plain_convolutions(narrow, kind, size):
    network, x = by_rule(kind), torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    got = network(x)
    assert len(got) == len(kind.taps)
    state, numbers = network.state_dict(), iter(CONVOLUTIONS[kind][0])
    found = {}
    for block, count in enumerate(kind.convolutions, 1):
        if block > 1:  # a last odd row or column is pooled alone
            x = F.max_pool2d(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-torch.inf), 2)
        for number, index in zip(range(1, count + 1), numbers, strict=False):
            x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1).relu()
            found[f"relu{block}_{number}"] = x
    for name, features in zip(kind.taps, got, strict=True):
        torch.testing.assert_close(features, found[name], rtol=0, atol=1e-6)


FILES = {
    "torchvision": torchvision_file,
    "without the rest": lambda kind: by_rule(kind).state_dict(),
    "slices": sliced,
    "parallel slices": lambda kind: {"model": {f"module.{name}": tensor for name, tensor in sliced(kind).items()}},
    "part of a detector": lambda kind: {
        "state_dict": {f"backbone.{name}": tensor for name, tensor in by_rule(kind).state_dict().items()}
    },
}


@pytest.mark.parametrize("kind", [VGG16, VGG19])
@pytest.mark.parametrize("file", FILES)
def test_files(narrow, tmp_path, file, kind):
    torch.save(FILES[file](kind), tmp_path / "w.pth")
    network = kind.load(tmp_path / "w.pth")
    wanted = by_rule(kind).state_dict()
    assert network.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.28.bias": None}, r"does not fit vgg19: missing: features\.28\.bias$"),
        (
            {"features.5.weight": torch.ones(3, 3, 3, 3)},
            r"features\.5\.weight has shape \[3, 3, 3, 3\], expected \[3, 2,",
        ),
        ({"features.0.bias": torch.full((2,), torch.nan)}, r"features\.0\.bias has entries that are not finite$"),
        ({"features.1.running_mean": torch.ones(2)}, r"unexpected: features\.1\.running_mean$"),
        ({"features.1.weight": torch.ones(2)}, r"unexpected: features\.1\.weight$"),
        ({"classifier.1.weight": torch.ones(2)}, r"unexpected: classifier\.1\.weight$"),
        ({"classifier.6.running_mean": torch.ones(2)}, r"unexpected: classifier\.6\.running_mean$"),
    ],
)
def test_what_does_not_fit_is_named(narrow, tmp_path, change, message):
    state = {name: tensor for name, tensor in (torchvision_file(VGG19) | change).items() if tensor is not None}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        VGG19.load(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("kind", "other", "message"),
    [
        (VGG16, VGG19, r"does not fit vgg16: missing: features\.17\.weight, .*unexpected: features\.16\.bias"),
        (VGG19, VGG16, r"does not fit vgg19: missing: features\.16\.weight, .*unexpected: features\.17\.bias"),
    ],
)
def test_the_other_network_is_refused(narrow, tmp_path, kind, other, message):
    torch.save(torchvision_file(other), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        kind.load(tmp_path / "w.pth")


def test_truncated_file(narrow, tmp_path):
    torch.save(torchvision_file(VGG19), tmp_path / "w.pth")
    (tmp_path / "short.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"short\.pth"):
        VGG19.load(tmp_path / "short.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        VGG19.load(tmp_path / "none.pth")
