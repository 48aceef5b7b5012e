"""The guide's recipes for ``attach``: every row of its table, with random weights."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rwpm_fast import Scorer, attach
from rwpm_fast.networks import ERFNet

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "networks.md"
TABLE = GUIDE.read_text().partition("### Recipes")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if re.match(r"\| (torchvision|transformers|the course) ", line)
]
PIXELS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VIT = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 64}


def of_transformers(name):
    """A small model of transformers with 5 classes."""
    transformers = pytest.importorskip("transformers")
    convnext = transformers.ConvNextConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    settings = {
        "Segformer": {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4, "num_attention_heads": [1] * 4},
        "UperNet": {"backbone_config": convnext, "hidden_size": 16, "auxiliary_channels": 8},
        "Beit": {**VIT, "out_indices": [1, 2, 3, 4]},
        "DPT": {
            **VIT,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8] * 4,
            "fusion_hidden_size": 16,
            "use_auxiliary_head": False,
        },
        "MobileNetV2": {"depth_multiplier": 0.25, "tf_padding": False},
        "MobileViT": {
            "hidden_sizes": [16] * 3,
            "neck_hidden_sizes": [8] * 6 + [16],
            "aspp_out_channels": 16,
            "num_attention_heads": 2,
        },
    }
    kind = name.removesuffix("ForSemanticSegmentation")
    config = getattr(transformers, f"{kind}Config")(**settings[kind], id2label={k: f"class {k}" for k in range(5)})
    return getattr(transformers, name)(config)


class Original(nn.Module):
    """The course's ERFNet, which enters its decoder by ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        network = ERFNet()
        self.encoder, self.decoder = network.encoder, network.decoder

    def forward(self, images):
        return self.decoder.forward(self.encoder(images))


def build(library, name):
    torch.manual_seed(0)
    if library == "torchvision":
        models = pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError)).models.segmentation
        return getattr(models, name)(weights=None, weights_backbone=None, num_classes=5)
    return of_transformers(name) if library == "transformers" else Original()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_recipe(row):
    library, name, embedding, head, further = row
    settings = eval(f"dict({further})")
    network = attach(build(library, name), embedding, head, **PIXELS, **settings)
    assert len(network.classes) == (19 if library == "the course" else 5)
    assert network.linear_head is (library != "the course")
    photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    analysis = Scorer(network).analyze(photo)
    assert analysis.walked.full_logits.shape == (len(network.classes), 96, 128)


def test_the_table_is_read():
    assert len(ROWS) == 9 and all(len(row) == 5 for row in ROWS)
