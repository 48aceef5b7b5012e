"""The methods by name: which files are read, with which settings, and what is said where some are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from python_tests.networks.weight_rule import weights_by_rule
from python_tests.synboost.parts import SIZE, dissimilarity, put_own_set, vgg19
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.synboost import METHODS, DissimilarityNet, NetworkFeatures, SynBoostScorer, load, methods
from rwpm_fast.synboost.ccfpse import CCFPSEEncoder, CCFPSEGenerator
from rwpm_fast.synboost.synthesis import CCFPSESynthesis
from rwpm_fast.synboost.vgg import VGG19

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
FILES = ("dissimilarity", "generator", "image_encoder", "vgg19")


@pytest.fixture
def own_set(tmp_path, monkeypatch):
    put_own_set(tmp_path / "weights", monkeypatch)
    return tmp_path / "weights"


@pytest.fixture
def segmentation():
    return Scorer(TinyNetwork())


@pytest.mark.parametrize("method", METHODS)
def test_the_own_set(own_set, segmentation, method):
    pipeline = load(method, segmentation)
    assert SynBoostScorer(pipeline).method == method
    assert pipeline.size == SIZE and pipeline.weights == methods.ENSEMBLES[method]
    assert (pipeline.minmax, pipeline.quantized) == ("range", False)
    assert isinstance(pipeline.features, NetworkFeatures) == (method == "synboost")
    score = pipeline(PHOTO).score
    assert score.shape == (48, 64) and score.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_own_set_is_told(tmp_path, monkeypatch, segmentation, method):
    monkeypatch.setattr(methods, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"generator\.npz: .* own weights of {method}; .* dissimilarity, gen"):
        load(method, segmentation)


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Files of narrow networks in the place of the released ones, read at their width."""
    parts = {
        "dissimilarity": dissimilarity(),
        "resynthesis": dissimilarity(dispersion=False, spade=False),
        "generator": CCFPSEGenerator((64, 64), width=4),
        "image_encoder": CCFPSEEncoder(width=4),
        "vgg19": vgg19(),
    }
    for name, network in parts.items():
        torch.save(weights_by_rule(network.state_dict()), tmp_path / f"{name}.pth")
    loads = {kind: kind.load for kind in (DissimilarityNet, CCFPSESynthesis, VGG19)}
    size = {CCFPSESynthesis: {"size": (64, 64)}}
    for kind, original in loads.items():
        narrow = {"width": 4, **size.get(kind, {})}
        monkeypatch.setattr(kind, "load", lambda *a, original=original, narrow=narrow, **b: original(*a, **b, **narrow))
    return {name: tmp_path / f"{name}.pth" for name in parts}


def test_released_files(released, segmentation):
    pipeline = load("synboost", segmentation, **{name: released[name] for name in FILES})
    assert (pipeline.minmax, pipeline.quantized, pipeline.size) == ("legacy", True, (256, 512))
    assert pipeline.weights == (0.75, 0.25, 0.0, 0.0)
    assert isinstance(pipeline.synthesis, CCFPSESynthesis) and isinstance(pipeline.features, VGG19)
    files = {**{name: released[name] for name in FILES[:-1]}, "dissimilarity": released["resynthesis"]}
    pipeline = load("resynthesis", segmentation, **files)
    assert pipeline.weights == (1.0, 0.0, 0.0, 0.0) and pipeline.features is None


@pytest.mark.parametrize(
    ("method", "names", "message"),
    [
        ("mine", (), "method: expected one of synboost, resynthesis, got 'mine'"),
        ("synboost", FILES[:3], "vgg19: expected a file beside that of dissimilarity; synboost reads dissimilarity,"),
        ("synboost", ("vgg19",), "dissimilarity: expected a file beside that of vgg19"),
        ("resynthesis", FILES, "vgg19: resynthesis does not read it; leave it out"),
    ],
)
def test_files_that_do_not_go_together(segmentation, method, names, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        load(method, segmentation, **dict.fromkeys(names, "nowhere.pth"))


def test_a_missing_file_is_named(segmentation):
    with pytest.raises(FileNotFoundError, match=r"dissimilarity: no such file: nowhere\.pth"):
        load("resynthesis", segmentation, **dict.fromkeys(FILES[:3], "nowhere.pth"))
