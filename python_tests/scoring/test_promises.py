"""What a scorer was told at its construction, and what happens where network or settings change between two calls."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from python_tests.networks.segmenter import ReferenceWalk, Segmenter, attached
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.data import Frame, LabelValues
from rwpm_fast.evaluate import evaluate
from rwpm_fast.submission import submit_fishyscapes

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)


def logits(network, walk=None):
    return Scorer(network, walk=walk).analyze(PHOTO).walked.full_logits


MODES = {
    "network": ("module 'Segmenter' of it", lambda network: network.train()),
    "model": ("module 'model' of it", lambda network: network.model.train()),
    "dropout": ("module 'model.classifier.3' of it", lambda network: network.model.classifier[3].train()),
    "batch norm": ("module 'model.backbone.1' of it", lambda network: network.model.backbone[1].train()),
}


@pytest.mark.parametrize(("message", "train"), MODES.values(), ids=MODES)
def test_training_mode_is_refused_at_each_call(message, train):
    network = attached()
    scorer = Scorer(network, walk=Walk(steps=2))
    expected, analysis = scorer(PHOTO), scorer.analyze(PHOTO)
    embedded = scorer.embed(PHOTO)
    train(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    for use in (
        lambda: scorer(PHOTO),
        lambda: scorer.analyze(PHOTO),
        lambda: scorer.embed(PHOTO),
        lambda: scorer.analyze_embedded(embedded),
        lambda: analysis.plain,
    ):
        with pytest.raises(RuntimeError, match=rf"network: {message} is in training mode; call \.eval\(\)"):
            use()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes  # nobody's mode was changed
    network.eval()
    assert torch.equal(scorer(PHOTO).score, expected.score)


def test_training_mode_ends_evaluations_and_submissions(tmp_path):
    photo = tmp_path / "0000_a.png"
    Image.fromarray(PHOTO).save(photo)
    network = attached()
    scorer = Scorer(network, "energy")
    network.model.train()
    with pytest.raises(RuntimeError, match="training mode"):
        submit_fishyscapes(scorer, {"0000": photo}, tmp_path)
    assert not list(tmp_path.glob("*.npy"))

    class Switching(TinyNetwork):
        def embed(self, images):
            self.train()  # as another thread might
            return super().embed(images)

    Image.fromarray(np.zeros(PHOTO.shape[:2], np.uint8)).save(tmp_path / "label.png")
    frames = [Frame("a", photo, tmp_path / "label.png", LabelValues.from_values(void=None))]
    with pytest.raises(RuntimeError, match="module 'tiny' of it is in training mode"):
        evaluate(Scorer(Switching()), frames)


class AlwaysSampling(nn.Dropout):
    def train(self, mode=True):
        return super().train(True)


def test_a_module_that_evaluation_leaves_in_training_is_no_fault():
    model = Segmenter()
    model.classifier[3] = AlwaysSampling(0.0)
    scorer = Scorer(attached(model))
    assert scorer.network.model.classifier[3].training
    scorer(PHOTO)
    model.train()
    with pytest.raises(RuntimeError, match="module 'model' of it"):
        scorer(PHOTO)


def test_another_threads_training_is_told_and_not_ended():
    network = attached()
    scorer, trained = Scorer(network), threading.Thread(target=network.model.train)
    trained.start()
    trained.join()
    with pytest.raises(RuntimeError, match="training mode"):
        scorer(PHOTO)
    assert network.model.training


CHANGES = {
    "dtype": lambda model: model.double(),
    "weights": lambda model: model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()}),
    "the embedding": lambda model: model.classifier.__setitem__(2, nn.Softplus()),
    "a module before": lambda model: setattr(model, "backbone", nn.Conv2d(3, 24, 4, stride=4)),
    "the parent of both": lambda model: setattr(model, "classifier", Segmenter(True).classifier.eval()),
    "the head": lambda model: model.classifier.__setitem__(4, nn.Conv2d(16, 7, 1)),
    "a head that is not linear": lambda model: model.classifier.__setitem__(4, Segmenter(True).classifier[4]),
    "a head that reads neighbors": lambda model: model.classifier.__setitem__(4, nn.Conv2d(16, 7, 3, padding=1)),
    "a part of the head": lambda model: model.classifier.__setitem__(
        4, nn.Sequential(model.classifier[4], nn.Hardtanh(-0.1, 0.1))
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("walk", [None, ReferenceWalk()], ids=["plain", "walked"])
def test_a_changed_model_scores_as_if_attached_afterwards(change, walk):
    network = attached()
    scorer = Scorer(network, walk=walk)
    before = scorer.analyze(PHOTO).walked.full_logits
    torch.manual_seed(1)
    change(network.model)
    afterwards = logits(attached(network.model), walk)
    torch.testing.assert_close(scorer.analyze(PHOTO).walked.full_logits, afterwards, rtol=0, atol=1e-5)
    if change is not CHANGES["dtype"]:
        assert (afterwards - before).abs().max() > 1e-3
    if walk is not None:
        images = network.preprocess(torch.tensor(PHOTO).permute(2, 0, 1)[None])
        with torch.no_grad():
            own = network.walked(walk)(images)["out"][0]
        torch.testing.assert_close(own.float(), afterwards, rtol=0, atol=1e-5)


def test_a_part_inside_the_head_is_followed():
    model = Segmenter()
    model.classifier[4] = nn.Sequential(nn.Conv2d(16, 7, 1), nn.Identity())
    network = attached(model)
    scorer = Scorer(network, walk=ReferenceWalk())
    scorer(PHOTO)
    assert network.linear_head
    model.classifier[4][1] = nn.Hardtanh(-0.1, 0.1).eval()
    got = scorer.analyze(PHOTO).walked.full_logits
    assert not network.linear_head
    torch.testing.assert_close(got, logits(attached(model), ReferenceWalk()), rtol=0, atol=1e-5)


def test_a_linearity_that_was_given_is_kept():
    network = attached(linear_head=False)
    network.model.classifier[4] = nn.Conv2d(16, 7, 1).eval()
    Scorer(network)(PHOTO)
    assert not network.linear_head


def test_a_head_of_other_classes_is_told():
    network = attached()
    scorer = Scorer(network)
    network.model.classifier[4] = nn.Conv2d(16, 9, 1).eval()
    with pytest.raises(ValueError, match=r"classes: expected 9 names for the 9 logits of 'classifier\.4', got 7"):
        scorer(PHOTO)


def test_logits_cannot_walk_once_the_head_is_not_linear():
    network = attached()
    scorer = Scorer(network, walk=Walk(steps=2), walk_values="logits")
    scorer(PHOTO)
    network.model.classifier[4] = Segmenter(True).classifier[4].eval()
    with pytest.raises(ValueError, match="walk_values: logits may walk only behind a linear head"):
        scorer(PHOTO)


SETTINGS = {"score": ("surprise", "energy"), "walk_values": ("pixels", "auto, embeddings, logits or masks")}


@pytest.mark.parametrize(("name", "value", "message"), [(name, *value) for name, value in SETTINGS.items()])
def test_settings_are_checked_at_each_call(name, value, message):
    scorer = Scorer(TinyNetwork())
    setattr(scorer, name, value)
    with pytest.raises(ValueError, match=message):
        scorer(PHOTO)


def test_a_network_on_another_device_gets_its_photos_there():
    network = attached()
    scorer = Scorer(network)
    network.to("meta")
    assert scorer.embed(PHOTO).embedding_map.is_meta
