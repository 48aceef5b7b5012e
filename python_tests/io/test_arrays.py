"""Arrays in every form: with negative strides they work, and with a mask of their own they are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rwpm_fast.numpy
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.io.arrays import as_array
from rwpm_fast.io.images import as_image
from rwpm_fast.metrics import TRACKS, ComponentMetrics, PixelMetrics
from rwpm_fast.submission.fishyscapes import write_result
from rwpm_fast.submission.float16 import Rescaling, round_to_float16
from rwpm_fast.submission.smiyc import write_map, write_mask

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)
MASK = RNG.random((24, 36)) < 0.6
SCORES = RNG.random((24, 36), dtype=np.float32)
LABELS = (RNG.random((24, 36)) < 0.1).astype(np.uint8)
SCORER = Scorer(TinyNetwork(), walk=Walk(steps=2))
TRACK = next(iter(TRACKS))
PIXELS = RNG.standard_normal((40, 8)).astype(np.float32)

VIEWS = {
    "rows": lambda a: a[::-1],
    "columns": lambda a: a[:, ::-1],
    "both": lambda a: a[::-1, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "read only": lambda a: np.broadcast_to(a[:1], a.shape),
    "transposed": lambda a: np.asfortranarray(a),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_count_as_their_copies(view, tmp_path):
    def same(make, *arrays):
        views = [view(array) for array in arrays]
        copies = [array.copy() for array in views]
        got, expected = make(*views), make(*copies)
        assert np.array_equal(np.asarray(got), np.asarray(expected))

    same(as_image, PHOTO)
    same(lambda mask: SCORER(PHOTO, mask).score, MASK)
    same(lambda photo, mask: SCORER(photo, mask).score, PHOTO, MASK)
    pixels = np.arange(40) % 3 > 0
    same(lambda e: rwpm_fast.numpy.walk(e, mask=pixels), PIXELS)
    same(lambda m: rwpm_fast.numpy.walk(PIXELS, mask=m[:, 0]), np.stack([pixels] * 8, 1))

    def ap(scores, labels):
        metrics = PixelMetrics()
        metrics.update(scores, labels)
        return metrics.compute().ap

    same(ap, SCORES, LABELS)
    same(round_to_float16, SCORES)


TAKERS = {
    "photo": lambda a: as_image(a(PHOTO)),
    "photo of a scorer": lambda a: SCORER(a(PHOTO)),
    "mask of a scorer": lambda a: SCORER(PHOTO, a(MASK)),
    "embeddings": lambda a: rwpm_fast.numpy.walk(a(PIXELS)),
    "values": lambda a: rwpm_fast.numpy.walk(PIXELS, a(PIXELS)),
    "mask of a walk": lambda a: rwpm_fast.numpy.walk(PIXELS, mask=a(PIXELS[:, 0] > 0)),
    "scores": lambda a: PixelMetrics().update(a(SCORES), LABELS),
    "labels": lambda a: PixelMetrics().update(SCORES, a(LABELS)),
    "scores of components": lambda a: ComponentMetrics(0.5, TRACK).update(a(SCORES), LABELS),
    "labels of components": lambda a: ComponentMetrics(0.5, TRACK).update(SCORES, a(LABELS)),
    "scores to round": lambda a: round_to_float16(a(SCORES)),
    "scores to fit": lambda a: Rescaling.fit([a(SCORES)]),
    "scores to rescale": lambda a: Rescaling((0.0, 1.0))(a(SCORES)),
    "map to write": lambda a: write_map("nowhere", a(SCORES.astype(np.float16))),
    "mask to write": lambda a: write_mask("nowhere", a(MASK)),
    "result to write": lambda a: write_result("nowhere", "0000", a(SCORES), LABELS),
    "segmentation to write": lambda a: write_result("nowhere", "0000", SCORES, a(LABELS)),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_arrays_with_a_mask_of_their_own_are_refused(take):
    for mask in (np.ma.nomask, True):
        with pytest.raises(
            TypeError, match=r"\w+: expected an array without a mask of its own.*give \.filled\(VALUE\)"
        ):
            take(lambda array, mask=mask: np.ma.masked_array(array, mask=mask))


def test_pictures_of_masked_arrays_are_refused():
    pytest.importorskip("matplotlib")
    from rwpm_fast.viz.figures import panel

    masked = np.ma.masked_array(SCORES)
    for arguments in ((PHOTO, masked, SCORES), (PHOTO, SCORES, masked), (np.ma.masked_array(PHOTO), SCORES, SCORES)):
        with pytest.raises(TypeError, match=r"(before|after|photo): expected an array without a mask of its own"):
            panel(*arguments)


def test_tensors_become_arrays():
    assert np.array_equal(as_array("scores", torch.arange(3.0, requires_grad=True)), np.arange(3.0))
    with pytest.raises(TypeError, match=r"scores: expected a type that NumPy has, got torch\.bfloat16"):
        as_array("scores", torch.zeros(2, dtype=torch.bfloat16))
