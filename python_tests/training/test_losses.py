"""What each loss of the compact network's training asks for."""

import pytest
import torch

from rwpm_fast.training.augment import Crop
from rwpm_fast.training.losses import compute_losses, teacher_energy_quantile
from rwpm_fast.training.samples import PhotoSample


def test_losses_pull_where_they_should():
    target = torch.full((1, 3, 2, 2), -9.0)
    target[:, 0] = 0
    target = target.log_softmax(1)
    known = torch.tensor([[[True, True], [False, False]]])
    unknown = torch.tensor([[[False, False], [True, False]]])
    crop = Crop(torch.empty(0), target, known, known, unknown)

    def losses(shift):
        return compute_losses(target + shift, crop, energy_margin=6.0)

    torch.testing.assert_close(losses(8.0)[:2], torch.zeros(2), atol=1e-5, rtol=0)
    assert losses(3.0)[1] > losses(8.0)[1] + 0.1  # too unsure where the class is known
    unsure = Crop(torch.empty(0), target, known, torch.zeros_like(known), unknown)
    assert compute_losses(target + 3.0, unsure, energy_margin=6.0)[1] == 0  # where the teacher is unsure too
    assert losses(8.0)[2] > losses(0.0)[2] > 0  # too sure of an outlier
    assert compute_losses(target.flip(1) + 8, crop, energy_margin=6.0)[0] > 1  # another class
    assert teacher_energy_quantile([]) == 6.0


def test_margin_is_what_the_teacher_exceeds_at_most_cells():
    logits = torch.randn(19, 10, 12, generator=torch.Generator().manual_seed(0)).half()
    margin = teacher_energy_quantile([PhotoSample(torch.zeros(3, 80, 96, dtype=torch.uint8), logits)])
    assert (logits.float().logsumexp(0) > margin).float().mean().item() == pytest.approx(0.7, abs=0.01)
