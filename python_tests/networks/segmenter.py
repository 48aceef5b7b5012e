"""A model in the manner of torchvision's, for tests of ``attach``."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwpm_fast import attach, reference

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """Layers and output as in torchvision's models: a dict of logits brought to the photo's size."""

    def __init__(self, bent: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 24, 7, stride=4, padding=3), nn.BatchNorm2d(24), nn.ReLU(inplace=True)
        )
        last = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Tanh(), nn.Conv2d(16, 7, 1)) if bent else nn.Conv2d(16, 7, 1)
        self.classifier = nn.Sequential(
            nn.Conv2d(24, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.Dropout(0.5), last
        )
        self.aux_classifier = nn.Conv2d(24, 7, 1)
        self.twice = nn.Conv2d(24, 24, 1)
        self.passes = 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.twice(self.twice(self.backbone(x)))
        logits = self.classifier(features)
        self.passes += 1  # whole ones
        return {"out": F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)}


def attached(model=None, **changes):
    settings = {"embedding": "classifier.2", "head": "classifier.4", "mean": MEAN, "std": STD, **changes}
    return attach(Segmenter() if model is None else model, **settings)


def as_input(photo: np.ndarray) -> Tensor:
    image = torch.as_tensor(photo).permute(2, 0, 1)[None] / 255
    return (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def own_logits(model: nn.Module, photo: np.ndarray) -> Tensor:
    with torch.no_grad():
        return model(as_input(photo))["out"][0]


class ReferenceWalk(nn.Module):
    def forward(self, embedding_map, value_map=None, mask=None):
        values = embedding_map if value_map is None else value_map
        walked = reference.walk(embedding_map.flatten(2).mT, values.flatten(2).mT, temperature=0.1, steps=3)
        return walked.mT.reshape(values.shape)
