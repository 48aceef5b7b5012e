"""Exports of whole networks equal eager torch, at sizes on both sides of every branch on the size."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from python_tests.places import DATA
from rwpm_fast import Scorer, Walk, attach, networks
from rwpm_fast.deploy.errors import ExportError
from rwpm_fast.deploy.export import export
from rwpm_fast.deploy.runners import open_runner
from rwpm_fast.deploy.verify import verify
from rwpm_fast.scenes import render_scene

pytestmark = pytest.mark.slow
# Above and below 832, to which the compact network reduces longer sides; odd ones; and one below half of it.
SIZES = [(720, 1280), (360, 640), (468, 832), (375, 1242), (722, 1282), (201, 333)]


def check(scorer, path, tolerance, sizes):
    """Export a scorer, and hold the file to eager torch at several sizes."""
    photos = [render_scene(np.random.default_rng(seed), size)[0] for seed, size in enumerate(sizes)]
    export(scorer, path, photos=[render_scene(np.random.default_rng(9), (256, 384))[0]])
    verify(open_runner(path), scorer, photos, tolerance=tolerance, name=path.name)


@pytest.mark.parametrize("name", ["compact", "dabnet"])
def test_our_networks_as_packages(name, tmp_path):
    weights = [DATA / "networks" / "dabnet_cityscapes.npz"] if name == "dabnet" else []
    if not all(file.exists() for file in weights):
        pytest.skip("no weights of DABNet")
    network = networks.load(name, *weights)
    walk = Walk(tolerance=1e-4, anchor_share=network.default_anchor_share)
    check(Scorer(network, walk=walk), tmp_path / f"{name}.pt2", 1e-5, SIZES)


def segformer():
    """A SegFormer of random weights, of a few thousand of them."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 32],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=32,
        num_labels=7,
    )
    model = transformers.SegformerForSemanticSegmentation(config)
    for weight in model.parameters():
        if weight.dim() > 1:  # as large as trained ones: errors would hide behind small logits
            nn.init.kaiming_normal_(weight)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    settings = {"mean": mean, "std": std, "padded_to": 32}
    return attach(model, "decode_head.dropout", "decode_head.classifier", **settings)


class Pyramid(nn.Module):
    """In SegFormer's manner: maps of several strides, brought to the largest, joined, and classified."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 8, 16, 32)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=4 if a == 3 else 2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(sizes)
        )
        self.linear = nn.ModuleList(nn.Conv2d(channels, 16, 1) for channels in sizes[1:])
        self.fuse = nn.Sequential(nn.Conv2d(48, 24, 1), nn.ReLU())
        self.classifier = nn.Conv2d(24, 7, 1)

    def forward(self, images):
        maps = []
        for stage, linear in zip(self.stages, self.linear, strict=True):
            images = stage(images)
            maps.append(linear(images))
        size = maps[0].shape[2:]
        joined = [nn.functional.interpolate(found, size, mode="bilinear", align_corners=False) for found in maps]
        return self.classifier(self.fuse(torch.cat(joined, 1)))


def pyramid():
    return attach(Pyramid(), "fuse", "classifier", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def mask2former():
    pytest.importorskip("transformers")
    pytest.importorskip("scipy")
    from python_tests.networks.test_mask2former import SmallRbA

    return SmallRbA().eval()


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("make", [pyramid, segformer])
def test_networks_of_others(make, kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    scorer = Scorer(make(), walk=Walk(steps=3, temperature=0.1))
    check(scorer, tmp_path / f"network.{kind}", 5e-5 if kind == "onnx" else 1e-5, [(256, 384), (201, 333), (97, 65)])


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_mask2former_of_transformers_is_one_graph_for_one_size(kind, tmp_path):
    # It makes tensors of the sizes of its maps, which a trace takes for constants.
    scorer = Scorer(mask2former(), walk=Walk(steps=3, temperature=0.1))
    with pytest.raises(
        ExportError, match=r"traced it is wrong for \d+x\d+: Guard failed: .* == 8; compute sizes without"
    ):
        check(scorer, tmp_path / f"network.{kind}", 1e-5, [(256, 384)])
    assert not list(tmp_path.iterdir())
