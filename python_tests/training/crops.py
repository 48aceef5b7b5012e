"""Batches of the training for tests: noise with a known class, and a patch of something unknown."""

import torch

from rwpm_fast.training.augment import Crop


def make_crop(batch=2, seed=0, height=32, width=64):
    generator = torch.Generator().manual_seed(seed)
    cells = (batch, height // 8, width // 8)
    unknown = torch.zeros(cells, dtype=torch.bool)
    unknown[:, 1:3, 2:5] = True
    return Crop(
        torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator),
        torch.randn(batch, 19, *cells[1:], generator=generator).log_softmax(1),
        ~unknown,
        ~unknown,
        unknown,
    )
