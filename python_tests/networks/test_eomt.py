from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.networks import EoMT, EoMTDINOv3

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 64,
    "num_queries": 7,
    "num_blocks": 3,
    "num_register_tokens": 2,
    "id2label": {0: "road", 1: "car", 2: "sky"},
}
KINDS = {"eomt": (EoMT, "Eomt", {}), "eomt_dinov3": (EoMTDINOv3, "EomtDinov3", {"intermediate_size": 64})}


def random_model(kind, masked=(0.0, 0.0, 0.0), **changes):
    """Random weights, large enough for masks that are not all alike."""
    _, prefix, settings = KINDS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**{**SMALL, **settings, **changes})
    model = getattr(transformers, f"{prefix}ForUniversalSegmentation")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.attn_mask_probs.copy_(torch.tensor(masked))
    return model


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("masked", [(0, 0, 0), (1, 0, 1), (1, 1, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_transformers_model(kind, masked, tmp_path, photo):
    model = random_model(kind, masked)
    model.save_pretrained(tmp_path)
    pixels = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    network = networks.load(kind, tmp_path)
    assert (network.name, network.classes, network.stride, network.padded_to) == (kind, ("road", "car", "sky"), 4, 16)
    images = network.preprocess(torch.tensor(photo).permute(2, 0, 1)[None])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in pixels.values())
    torch.testing.assert_close(images[0], (torch.tensor(photo).permute(2, 0, 1) / 255 - mean) / std)
    with torch.no_grad():
        ours, theirs = network(images), model(images)
    torch.testing.assert_close(ours.class_logits, theirs.class_queries_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.mask_logits, theirs.masks_queries_logits, rtol=1e-4, atol=1e-4)
    if any(masked):
        with torch.no_grad():
            plain = KINDS[kind][0](random_model(kind)).eval()(images)
        assert (plain.mask_logits - ours.mask_logits).abs().max() > 0.01  # the masks had a part in it


@pytest.mark.parametrize("kind", KINDS)
def test_photos_of_other_shapes_are_seen_as_a_whole(kind):
    network = KINDS[kind][0](random_model(kind)).eval()
    photo = np.random.default_rng(1).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    assert network.input_size((45, 80)) == (64, 114) and network.padded_size((45, 80)) == (64, 128)
    assert network.input_size((20, 200)) == (13, 128)
    analysis = Scorer(network).analyze(photo)
    assert analysis.embedding_map.shape == (32, 16, 32)
    assert analysis.walked.full_logits.shape == (3, 45, 80)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_walk_as_the_map_does(kind, photo):
    network = KINDS[kind][0](random_model(kind)).eval()
    walk = Walk(steps=3, temperature=0.05, tolerance=0)
    of_map, by_default, of_masks = (
        Scorer(network, walk=walk, walk_values=values).analyze(photo).walked.score("rba")
        for values in ("embeddings", "auto", "masks")
    )
    torch.testing.assert_close(by_default, of_map, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(of_masks, of_map, rtol=1e-4, atol=1e-5)
    assert (of_map - Scorer(network)(photo).score).abs().max() > 1e-4


def test_another_size_and_fewer_classes(tmp_path, photo):
    random_model("eomt").save_pretrained(tmp_path)
    network = networks.load("eomt", tmp_path, size=(32, 96), leave_out=["sky"])
    analysis = Scorer(network).analyze(photo)
    assert analysis.embedding_map.shape == (32, 8, 24)
    assert analysis.walked.full_logits.shape == (2, 64, 64)
    assert networks.load("eomt", tmp_path).fixed_size is None


def test_models_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model: expected attn_mask_probs of 0, as after the training, or 1, got \["):
        EoMT(random_model("eomt", (1.0, 0.5, 0.0)))
    with pytest.raises(ValueError, match=r"model: expected a patch_size that 8 divides, .* got 20"):
        EoMT(random_model("eomt", patch_size=20, image_size=80, num_upscale_blocks=3))
    random_model("eomt").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"expected a folder with a model of type eomt_dinov3, got eomt in"):
        networks.load("eomt_dinov3", tmp_path)
