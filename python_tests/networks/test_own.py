"""Networks of the user's own by the place of what builds them, and the settings of any network."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from rwpm_fast import Scorer, networks, scores
from rwpm_fast.evaluate import ConfigError, EvaluationConfig, make_plan
from rwpm_fast.networks import MaskLogits, Variant
from rwpm_fast.networks.classes import keep_classes
from rwpm_fast.networks.own import build, file_stem
from rwpm_fast.networks.resize import resize_photos

MINE = """
import torch
from torch import nn
from beside import WIDTH
from rwpm_fast.networks import Network


class Segmenter(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.top = nn.Conv2d(3, width, 4, stride=4), nn.Conv2d(width, 5, 1)

    def forward(self, x):
        return self.top(self.body(x))


class Adapter(Network):
    name, classes, stride, linear_head = "mine", tuple("abcde"), 4, True

    def __init__(self):
        super().__init__()
        self.model = Segmenter()

    def preprocess(self, photos):
        return photos.float() / 255

    def embed(self, images):
        return self.model.body(images)

    def head(self, map_):
        return self.model.top(map_)


def with_weights(weights=None):
    model = Segmenter()
    if weights is not None:
        model.load_state_dict(torch.load(weights)["mine"])
    return model


def needs(depth, width):
    return Segmenter(width)


ready, number = Segmenter(), 3
nothing = lambda: None
"""
PATHS = {"embedding": "body", "head": "top"}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("WIDTH = 6\n")
    (tmp_path / "mine.py").write_text(MINE)
    before, modules = list(sys.path), set(sys.modules)
    yield tmp_path / "mine.py"
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.split(" ")[0] in ("mine", "beside", "mine_package"):
            del sys.modules[name]


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("attribute", ["Segmenter", "ready", "with_weights"])
def test_a_torch_module_is_attached(file, photo, attribute):
    network = networks.load(f"{file}:{attribute}", **PATHS)
    assert network.name == "Segmenter (embedding body, head top)"
    assert network.stride == 4 and network.linear_head and not network.training
    assert Scorer(network)(photo).score.shape == (40, 64)


def test_a_module_of_the_current_folder(file, photo, monkeypatch):
    monkeypatch.chdir(file.parent)
    (file.parent / "mine_package").mkdir()
    file.rename(file.parent / "mine_package" / "nets.py")
    network = networks.load("mine_package.nets:Segmenter", **PATHS)
    assert Scorer(network)(photo).score.shape == (40, 64)
    assert sys.path[-1] == str(file.parent)  # searched last


def test_a_network_is_taken_as_it_is(file, photo):
    network = networks.load(f"{file}:Adapter")
    assert network.name == "mine" and not network.training
    plain = Scorer(network).analyze(photo).walked.full_logits
    changed = networks.load(f"{file}:Adapter", size=(20, 32), leave_out=["b", -1])
    assert changed.classes == tuple("acd") and changed.input_size((40, 64)) == (20, 32)
    small = resize_photos(torch.tensor(photo).permute(2, 0, 1)[None], (20, 32))
    logits = Scorer(changed).analyze(photo).walked.logits
    with torch.no_grad():
        torch.testing.assert_close(logits, network(network.preprocess(small))[0, [0, 2, 3]])
    assert plain.shape == (5, 40, 64)
    with pytest.raises(
        ValueError, match=r"embedding: expected only with a torch module, and .* gives a Network, which"
    ):
        networks.load(f"{file}:Adapter", **PATHS)


def test_weights_are_loaded_by_name_or_by_what_takes_them(file, tmp_path):
    state = {name: value + 1 for name, value in build(f"{file}:Segmenter").state_dict().items()}
    torch.save({"module." + name: value for name, value in state.items()}, tmp_path / "plain.pth")
    torch.save({"mine": state}, tmp_path / "nested.pth")
    for attribute, weights in (("Segmenter", "plain.pth"), ("with_weights", "nested.pth")):
        module = build(f"{file}:{attribute}", tmp_path / weights)
        assert torch.equal(module.top.bias, state["top.bias"])
    torch.save({"body.weight": state["body.weight"]}, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"less\.pth does not fit .*mine\.py:Segmenter: missing: body\.bias, top"):
        build(f"{file}:Segmenter", tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"weights_key: expected none, since .*:with_weights loads its weights itself"):
        build(f"{file}:with_weights", tmp_path / "nested.pth", weights_key="mine")


@pytest.mark.parametrize(
    ("attribute", "settings", "message"),
    [
        ("Segmenter", {}, r"embedding: expected the paths of two modules of .*mine\.py:Segmenter, embedding and head"),
        ("Segmenter", {"head": "top"}, "embedding: expected the path of a module beside the head, got 'top' alone"),
        ("Segmenter", {"embedding": "body", "head": "tops"}, "head: the model has no module 'tops'; close names: top"),
        ("Segmentor", PATHS, r"network: .*mine\.py has no 'Segmentor'; it has .*Segmenter"),
        ("number", PATHS, r"network: expected .*:number to be a torch\.nn\.Module, or a function .* got a int"),
        ("nothing", PATHS, r"network: expected .*:nothing to make a torch\.nn\.Module, got a NoneType"),
        (
            "needs",
            PATHS,
            "network: expected .*:needs to need no argument but weights, it needs depth, width; give a fu",
        ),
        ("no name", PATHS, r"network: expected my\.module:build or file\.py:build, got '.*:no name'"),
        ("Segmenter", {**PATHS, "leave_out": ["void"]}, "leave_out: expected names of classes or their numbers"),
        ("Segmenter", {**PATHS, "size": (40, 0)}, r"size: expected height and width, 1 or more each, got \(40, 0\)"),
    ],
)
def test_places_that_build_no_network(file, attribute, settings, message):
    with pytest.raises(ValueError, match=message):
        networks.load(f"{file}:{attribute}", **settings)


def test_modules_that_are_not_found(file, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"network: no such file: other\.py"):
        networks.load("other.py:build", **PATHS)
    with pytest.raises(ImportError, match=r"network: no module 'nowhere\.at_all' in .* or installed; give its file"):
        networks.load("nowhere.at_all:build", **PATHS)
    (file.parent / "beside.py").write_text("import a_library_that_is_missing")
    with pytest.raises(ImportError, match="No module named 'a_library_that_is_missing'"):
        networks.load(f"{file}:Segmenter", **PATHS)
    assert f"mine of {file.parent.resolve()}" not in sys.modules


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PATHS, r"embedding: expected only with a module of your own, .* got 'body' with compact, which has its own"),
        ({"std": (1, 1, 1)}, "std: expected only with a module of your own"),
        ({"leave_out": ["void"]}, "leave_out: expected names of classes .* of road, sidewalk, .*, got 'void'"),
        ({"size": (1664, 800)}, "size: expected none with compact, which resizes photos itself, .* to 832 x 400"),
    ],
)
def test_settings_that_a_named_network_has_not(settings, message):
    with pytest.raises(ValueError, match=message):
        networks.load("compact", **settings)
    with pytest.raises(TypeError, match="sizes"):
        networks.load("compact", sizes=(3, 4))


def test_a_variant_keeps_what_the_network_promises(photo):
    network = networks.load()
    variant = networks.load("compact", size=(64, 96), leave_out=["sky"])
    assert isinstance(variant, Variant)
    assert variant.name == "compact (size 64 96, leave_out sky)" and "sky" not in variant.classes
    for name in ("stride", "linear_head", "mask_head", "default_score", "default_anchor_share", "padded_to"):
        assert getattr(variant, name) == getattr(network, name), name
    assert len(Scorer(variant).analyze(photo).walked.logits) == len(variant.classes) == 18


def test_queries_of_a_class_that_is_left_out_count_as_void():
    torch.manual_seed(0)
    masks = MaskLogits(torch.randn(1, 7, 5), torch.randn(1, 7, 4, 6))
    kept = keep_classes(masks, [0, 2, 3])
    assert isinstance(kept, MaskLogits) and kept.class_logits.shape == (1, 7, 4)
    wanted = scores.mask_class_logits(*masks)[:, [0, 2, 3]]
    torch.testing.assert_close(scores.mask_class_logits(*kept), wanted)


def test_files_are_called_by_module_and_attribute():
    names = {"dabnet": "dabnet", "a/b/mine.py:build": "mine-build", "my.nets:Net": "my.nets-Net"}
    assert {name: file_stem(name) for name in names} == names


def test_a_ready_network_takes_no_settings_in_an_evaluation():
    with pytest.raises(ConfigError, match=r"network_settings: the CompactNet of network has its own; leave it out"):
        make_plan(EvaluationConfig(network=networks.load(), network_settings={"size": (64, 96)}))
