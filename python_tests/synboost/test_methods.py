"""The methods by name: which files are read, with which settings, and what is said where some are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from python_tests.networks.weight_rule import weights_by_rule
from python_tests.synboost.parts import NO_ENSEMBLE, SIZE, dissimilarity, put_own_set, put_training, vgg19
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.synboost import (
    METHODS,
    DissimilarityNet,
    LightSynthesis,
    NetworkFeatures,
    SynBoost,
    SynBoostScorer,
    load,
    methods,
)
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
    assert pipeline.size == SIZE and pipeline.weights == ((0.75, 0.25, 0, 0) if method == "synboost" else NO_ENSEMBLE)
    assert (pipeline.minmax, pipeline.quantized) == ("range", False)
    assert isinstance(pipeline.features, NetworkFeatures) == (method == "synboost")
    score = pipeline(PHOTO).score
    assert score.shape == (48, 64) and score.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_own_set_is_told(tmp_path, monkeypatch, segmentation, method):
    monkeypatch.setattr(methods, "WEIGHTS", tmp_path)
    with pytest.raises(
        FileNotFoundError, match=rf"own weights of {method} \(.* without {method}\.json.*\); .* dissimilarity, gen"
    ):
        load(method, segmentation)


TUNED = (0.5, 0.25, 0.25, 0)


def test_a_training(tmp_path, monkeypatch, segmentation):
    monkeypatch.setattr(methods, "WIDTH", 4)
    put_training(tmp_path / "run", {"synboost": TUNED})
    pipeline = load("synboost", segmentation, trained=tmp_path / "run")
    assert (pipeline.size, pipeline.weights, pipeline.minmax) == (SIZE, TUNED, "range") and not pipeline.quantized
    assert isinstance(pipeline.features, NetworkFeatures) and isinstance(pipeline.synthesis, LightSynthesis)
    parts = {"synthesis": pipeline.synthesis, "dissimilarity": pipeline.dissimilarity, "weights": TUNED, "size": SIZE}
    expected = SynBoost(segmentation=segmentation, features=NetworkFeatures(segmentation.network), **parts)
    assert pipeline(PHOTO).score.equal(expected(PHOTO).score)


def test_a_training_with_files_of_others(tmp_path, released, segmentation):
    put_training(
        tmp_path / "run", {"synboost": TUNED, "resynthesis": NO_ENSEMBLE}, synthesis="CC-FPSE", features="vgg19"
    )
    files = {"trained": tmp_path / "run", **{name: released[name] for name in FILES[1:]}}
    pipeline = load("synboost", segmentation, **files)
    assert (pipeline.size, pipeline.weights, pipeline.minmax) == (SIZE, TUNED, "range") and not pipeline.quantized
    assert isinstance(pipeline.synthesis, CCFPSESynthesis) and isinstance(pipeline.features, VGG19)
    del files["vgg19"]
    with pytest.raises(
        ValueError, match=r"^vgg19: expected the file that the training in .*run was made with, got none"
    ):
        load("synboost", segmentation, **files)
    assert load("resynthesis", segmentation, **files).features is None


@pytest.mark.parametrize(
    ("change", "given", "error", "message"),
    [
        (None, "nowhere", FileNotFoundError, r"no such folder: nowhere"),
        (
            {"method": "mine"},
            "run",
            ValueError,
            r"run/synboost\.json is damaged \(method: expected synboost, got mine\)",
        ),
        ({"size": [32, 60]}, "run", ValueError, r"is damaged \(size: expected height and width, positive multiples"),
        ({"size": "big"}, "run", ValueError, r"is damaged \("),
        ({"width": None}, "run", ValueError, r"is damaged \(width: expected an integer"),
        ({"ensemble_weights": [1, 0, 0]}, "run", ValueError, r"is damaged \(.*not enough values"),
        ({"ensemble_weights": [0, 0, 0, 0]}, "run", ValueError, r"is damaged \(weights: "),
        (
            {"synthesis": "mine"},
            "run",
            ValueError,
            r"is damaged \(synthesis: expected one of light, CC-FPSE, got 'mine'",
        ),
        (b"{", "run", ValueError, r"is damaged \(Expecting property name"),
        (b"[]", "run", ValueError, r"is damaged \(expected an object\); give the folder of another training"),
        (b"{}", "run", ValueError, r"is damaged \(no 'method'\)"),
        ("synboost.json", "run", FileNotFoundError, r"expected a folder with a training of synboost, got run without"),
        ("synboost.npz", "run", FileNotFoundError, r"run/synboost\.json is there without run/synboost\.npz"),
        ("generator.npz", "run", FileNotFoundError, r"is there without run/generator\.npz"),
    ],
)
def test_a_training_that_cannot_be_used(tmp_path, monkeypatch, segmentation, change, given, error, message):
    monkeypatch.chdir(tmp_path)
    put_training(Path("run"), {"synboost": TUNED}, **(change if isinstance(change, dict) else {}))
    if isinstance(change, str):
        Path("run", change).unlink()
    if isinstance(change, bytes):
        Path("run/synboost.json").write_bytes(change)
    with pytest.raises(error, match=f"^trained: .*{message}"):
        load("synboost", segmentation, trained=given)


@pytest.mark.parametrize("name", ["dissimilarity", "generator", "vgg19"])
def test_a_training_and_files_that_it_does_not_read(tmp_path, segmentation, name):
    put_training(tmp_path / "run", {"synboost": TUNED})
    with pytest.raises(ValueError, match=f"^{name}: synboost as trained in .*run does not read it; leave it out"):
        load("synboost", segmentation, trained=tmp_path / "run", **{name: "nowhere"})


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
        monkeypatch.setattr(kind, "load", lambda *a, original=original, narrow=narrow, **b: original(*a, **b | narrow))
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
