from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.networks import DINOLinear, DINONeighbors

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
KINDS = {
    "Dinov2": {"mlp_ratio": 2},
    "Dinov2WithRegisters": {"mlp_ratio": 2, "num_register_tokens": 3},
    "DINOv3ViT": {"intermediate_size": 48, "num_register_tokens": 4},
}


def backbone(kind="Dinov2"):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL, **KINDS[kind])
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_a_linear_head(kind, tmp_path, photo):
    model = backbone(kind)
    model.save_pretrained(tmp_path)
    weight, bias = torch.randn(19, 24), torch.randn(19)
    np.savez(tmp_path / "head.npz", weight=weight.numpy(), bias=bias.numpy())
    pixels = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    network = networks.load("dino_linear", tmp_path)
    assert network.classes == networks.CITYSCAPES_CLASSES and network.linear_head and network.stride == 8

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in pixels.values())
    images = F.pad((torch.tensor(photo).permute(2, 0, 1) / 255 - mean) / std, (0, 3))[None]
    with torch.no_grad():
        tokens = model(images).last_hidden_state[:, -5 * 8 :]
        wanted = (tokens @ weight.T + bias).mT.reshape(1, 19, 5, 8)
    analysis = Scorer(network).analyze(photo)
    assert analysis.embedding_map.shape == (24, 5, 8)
    torch.testing.assert_close(analysis.walked.logits[None], wanted, rtol=1e-3, atol=1e-3)
    assert networks.load("dino_linear", tmp_path, size=(32, 64)).input_size((40, 61)) == (32, 64)


def test_patches_of_the_reference_are_their_own_neighbors(photo):
    model = backbone()
    network = DINONeighbors.from_photos(model, [photo])
    assert network.classifier.reference.shape == (5 * 7, 24)  # the last column is partly padding
    other = np.random.default_rng(1).integers(0, 256, (40, 61, 3), dtype=np.uint8)
    seen, unseen = (Scorer(network).analyze(p) for p in (photo, other))
    assert (seen.walked.logits[0, :, :7] > 1 - 1e-5).all()
    with torch.no_grad():
        pixels = F.normalize(unseen.embedding_map, dim=0).flatten(1)
        nearest = (network.classifier.reference @ pixels).amax(0).reshape(5, 8)
    torch.testing.assert_close(unseen.walked.logits[0], nearest)
    full = F.interpolate(unseen.walked.logits[None], (40, 64), mode="bilinear")[0, 0, :, :61]
    torch.testing.assert_close(Scorer(network)(other).score, -full)


def test_embeddings_walk_before_the_search(photo, monkeypatch):
    monkeypatch.setattr("rwpm_fast.networks.dino.AT_ONCE", 7)  # which changes no digit
    model = backbone()
    network = DINONeighbors.from_photos(model, [photo[:24, :24], photo[16:]], limit=20)
    assert network.classifier.reference.shape == (20, 24)
    walk = Walk(steps=2, temperature=0.1)
    walked = Scorer(network, walk=walk).analyze(photo)
    with torch.no_grad():
        pixels = F.normalize(walk(walked.embedding_map[None])[0], dim=0).flatten(1)
        nearest = (network.classifier.reference @ pixels).amax(0).reshape(5, 8)
    torch.testing.assert_close(walked.walked.logits[0], nearest, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="logits may walk only behind a linear head"):
        Scorer(network, walk=walk, walk_values="logits")


def test_a_reference_is_kept_beside_the_backbone(tmp_path, photo):
    model = backbone("DINOv3ViT")
    model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected reference\.npz in .*DINONeighbors\.from_photos"):
        networks.load("dino_neighbors", tmp_path)
    network = DINONeighbors.from_photos(model, [photo])
    network.save_reference(tmp_path)
    loaded = networks.load("dino_neighbors", tmp_path)
    torch.testing.assert_close(Scorer(loaded)(photo).score, Scorer(network)(photo).score)


class Timm(nn.Module):
    """What the adapter reads of a vision transformer of timm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.num_prefix_tokens, self.num_features = 2, 6
        self.patch_embed = nn.Conv2d(3, 6, 8, stride=8)
        self.patch_embed.patch_size = (8, 8)

    def forward_features(self, images):
        patches = self.patch_embed(images).flatten(2).mT
        return torch.cat([patches.new_zeros(len(images), 2, 6), patches], dim=1)


def test_a_transformer_of_timm(photo):
    network = DINOLinear(Timm(), ("road", "car"), size=(32, 48)).eval()
    analysis = Scorer(network, walk=Walk(steps=1)).analyze(photo)
    assert analysis.embedding_map.shape == (6, 4, 6)
    assert analysis.walked.full_logits.shape == (2, 40, 61)
    assert DINONeighbors.from_photos(Timm(), [photo]).classifier.reference.shape == (35, 6)


def test_timms_own_transformer(photo):
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, dynamic_img_size=True)
    network = DINOLinear(model, ("road", "car")).eval()
    assert Scorer(network).analyze(photo).embedding_map.shape == (192, 3, 4)


def test_what_does_not_fit(tmp_path, photo):
    with pytest.raises(TypeError, match=r"backbone: expected Dinov2Model, .* of transformers or .* got Conv2d"):
        DINOLinear(nn.Conv2d(3, 6, 1), ("road",))
    with pytest.raises(ValueError, match=r"reference: expected embeddings \[M, 6\], .*, got \[3, 5\]"):
        DINONeighbors(Timm(), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="photos: expected one or more with a whole patch of 8 x 8 pixels, got none"):
        DINONeighbors.from_photos(Timm(), [photo[:5]])
    with pytest.raises(ValueError, match="limit: expected a number of patches, 1 or more, got 0"):
        DINONeighbors.from_photos(Timm(), [photo], limit=0)
    backbone().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected a head, head\.safetensors or .* in .*, which has none"):
        networks.load("dino_linear", tmp_path)
    torch.save({"weight": torch.zeros(3, 20), "bias": torch.zeros(3)}, tmp_path / "head.pth")
    with pytest.raises(ValueError, match=r"does not fit the linear head: mismatched: weight has shape \[3, 20, 1, 1\]"):
        networks.load("dino_linear", tmp_path)
