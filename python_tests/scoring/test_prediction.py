from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, scores
from rwpm_fast.networks import MaskLogits
from rwpm_fast.scoring.prediction import DensePrediction, MaskPrediction

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


class Broken(TinyNetwork):
    """Gives logits with a value at some pixels of its map [12, 18]."""

    def __init__(self, value: float, pixels: int) -> None:
        super().__init__()
        self.value, self.pixels = value, pixels

    def head(self, embedding_map: Tensor) -> Tensor:
        logits = super().head(embedding_map).clone()
        logits[:, :, : self.pixels] = self.value
        return logits


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["energy", "blurred_energy", "max_logit"])
@pytest.mark.parametrize(("pixels", "broken"), [(12, 24 * 36), (3, None)])
def test_scores_that_are_not_finite_are_refused(value, name, pixels, broken):
    scorer = Scorer(Broken(value, pixels), name)
    photo = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    message = rf"{name}: not finite at {broken or '[1-9][0-9]+'} of 864 pixels; most likely weights .* or its dtype"
    prediction = scorer.analyze(photo).walked
    for use in (lambda: scorer(photo), lambda: prediction.score(name)):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("name", ["rba", "energy", "mask2anomaly"])
def test_scores_of_masks_that_are_not_finite_are_refused(views, name):
    given = logits(views, None)
    given.class_logits[0, 3] = torch.nan
    with pytest.raises(ValueError, match=rf"{name}: not finite at 1450 of 1450 pixels"):
        MaskPrediction((29, 50), None, given, (32, 64), (29, 50)).score(name)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(29, 50), (40, 77)], ids=["native", "resized"])
def test_logits_of_a_padded_input_are_cropped(size, align_corners):
    given = torch.randn(5, 8, 16, generator=torch.Generator().manual_seed(0))
    settings = {"mode": "bilinear", "align_corners": align_corners}
    full = F.interpolate(given[None], (32, 64), **settings)[..., :29, :50]
    expected = full if size == (29, 50) else F.interpolate(full, size, **settings)
    got = DensePrediction(size, None, given, align_corners, (32, 64), (29, 50)).full_logits
    assert torch.equal(got, expected[0])
    whole = DensePrediction(size, None, given, align_corners, (29, 50), (29, 50)).full_logits
    assert torch.equal(whole, F.interpolate(given[None], size, **settings)[0])
