from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rwpm_fast import scores
from rwpm_fast.networks import MaskLogits
from rwpm_fast.scoring.prediction import MaskPrediction

QUERIES = 23  # more than two of the portions that are up-sampled at a time


def logits(views: int, sure_of: int | None, seed: int = 0) -> MaskLogits:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(views, QUERIES, 20, generator=generator)
    if sure_of is not None:
        classes[:, ::5, sure_of] += 20
    return MaskLogits(classes, torch.randn(views, QUERIES, 8, 16, generator=generator) * 3)


def maps(class_logits, mask_logits, size):
    """Class and stuff maps by the definition, all queries at once."""
    masks = F.interpolate(mask_logits[None], (32, 64), mode="bilinear", align_corners=False)[0, :, :29, :50]
    both = (make(class_logits, masks) for make in (scores.mask_class_logits, scores.confident_stuff_maps))
    return [F.interpolate(m[:, None], size, mode="bilinear", align_corners=False)[:, 0] for m in both]


@pytest.mark.parametrize("sure_of", [4, 0, None], ids=["stuff", "road", "nothing"])
@pytest.mark.parametrize("size", [(29, 50), (40, 77)], ids=["native", "resized"])
@pytest.mark.parametrize("views", [1, 2])
def test_mask_prediction(views, size, sure_of):
    given = logits(views, sure_of)
    prediction = MaskPrediction(size, None, given, (32, 64), (29, 50))
    by_view = [maps(*view, size) for view in zip(*given, strict=True)]
    assert all(len(stuff) == (5 if sure_of == 4 else 0) for _, stuff in by_view)

    def average(values):
        return values[0] if views == 1 else (values[0] + values[1].flip(-1)) / 2

    full = average([classes for classes, _ in by_view])
    torch.testing.assert_close(prediction.full_logits, full, rtol=0, atol=1e-5)
    assert (prediction.segmentation == full.argmax(0)).float().mean() > 0.999
    expected = average([scores.mask2anomaly(*view) for view in by_view])
    torch.testing.assert_close(prediction.score("mask2anomaly"), expected, rtol=0, atol=1e-5)
    for name in ("rba", "energy", "max_logit"):
        expected = average([scores.get(name)(classes) for classes, _ in by_view])
        torch.testing.assert_close(prediction.score(name), expected, rtol=0, atol=1e-5)
    assert torch.equal(prediction.value_map, given.mask_logits[0])


def test_views_are_calibrated_before_they_are_averaged():
    given, edges = logits(2, None), ([0, 16, 29], [0, 20, 50])
    size = (29, 50)
    views = [MaskPrediction(size, edges, MaskLogits(*(x[v : v + 1] for x in given)), (32, 64), size) for v in (0, 1)]
    plain, mirrored = (view.score("rba") for view in views)
    both = MaskPrediction(size, edges, given, (32, 64), size).score("rba")
    torch.testing.assert_close(both, (plain + mirrored.flip(-1)) / 2)
    raw = MaskPrediction(size, None, given, (32, 64), size).score("rba")
    assert (both - raw).abs().max() > 1e-3
