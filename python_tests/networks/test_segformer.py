from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rwpm_fast import Scorer, Walk, networks

pytest.importorskip("transformers")
from transformers import SegformerConfig, SegformerForSemanticSegmentation

CLASSES = ("road", "car", "sky", "tree", "void")
PIXELS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1] * 4,
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=12,
        id2label=dict(enumerate(CLASSES)),
    )
    model = SegformerForSemanticSegmentation(config).eval()
    norm = model.decode_head.batch_norm
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segformer")
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PIXELS, "size": {"height": 64, "width": 64}}))
    return folder


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)


def test_a_folder_gives_the_transformers_model(model, folder, photo):
    network = networks.load("segformer", folder)
    assert (network.name, network.classes, network.stride, network.linear_head) == ("segformer", CLASSES, 4, True)
    images = torch.tensor(photo / 255, dtype=torch.float32).permute(2, 0, 1)[None]
    images = (images - torch.tensor(PIXELS["image_mean"]).view(3, 1, 1)) / torch.tensor(PIXELS["image_std"]).view(
        3, 1, 1
    )
    with torch.no_grad():
        logits = model(images).logits
    for _ in range(2):
        analysis = Scorer(network).analyze(photo)
        torch.testing.assert_close(analysis.walked.logits[None], logits, rtol=1e-4, atol=1e-5)
    wanted = F.interpolate(logits, (40, 61), mode="bilinear")[0]
    torch.testing.assert_close(analysis.walked.full_logits, wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # the model is as it was
        torch.testing.assert_close(network.model(images).logits, logits, rtol=1e-4, atol=1e-5)


def test_logits_walk_as_embeddings_do(folder, photo):
    network = networks.load("segformer", folder, leave_out=["void"], size=(32, 64))
    assert network.classes == CLASSES[:4] and network.input_size((40, 61)) == (32, 64)
    walk = Walk(steps=3, temperature=0.05, tolerance=0)
    by_logits, by_map = (
        Scorer(network, walk=walk, walk_values=values).analyze(photo).walked.logits for values in ("auto", "embeddings")
    )
    assert by_logits.shape == (4, 8, 16)
    torch.testing.assert_close(by_logits, by_map, rtol=1e-4, atol=1e-5)


def test_folders_that_are_refused(model, folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights: expected a folder of transformers' save_pretrained"):
        networks.load("segformer", tmp_path)
    model.config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "mask2former"}))
    with pytest.raises(ValueError, match="expected a folder with a model of type segformer, got mask2former"):
        networks.load("segformer", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {name: value for name, value in model.state_dict().items() if "classifier" not in name}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"does not fit its configuration: missing: decode_head\.classifier\.bias"):
        networks.load("segformer", tmp_path)
