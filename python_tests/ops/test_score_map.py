"""The score map in one pass equals up-sampling, score and segmentation one after the other."""

import pytest
import torch

from rwpm_fast import scores
from rwpm_fast.ops import library
from rwpm_fast.ops.score_map import SCORES, score_map

compiled = pytest.mark.skipif(library.unsupported_reason() is not None, reason="the library is not built")


def expected(logits, size, enlarged, align_corners, score):
    """By definition, the score in float64."""
    full = torch.nn.functional.interpolate(logits[None], enlarged, mode="bilinear", align_corners=align_corners)[0]
    full = full[:, : size[0], : size[1]]
    return scores.get(score)(full.double()), full.argmax(0)


def logits_of(classes, height, width):
    return 4 * torch.randn(classes, height, width, generator=torch.Generator().manual_seed(classes))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("classes", "map_size", "size", "enlarged"),
    [
        (19, (58, 104), (467, 831), (467, 831)),
        (19, (12, 16), (90, 125), (96, 128)),  # padding at the bottom and on the right
        (150, (9, 13), (65, 97), (65, 97)),
        (1, (2, 3), (33, 47), (33, 47)),
        (2, (1, 1), (5, 17), (5, 17)),
        (3, (40, 40), (17, 33), (17, 33)),  # reduced
        (256, (3, 2), (1, 1), (24, 16)),
    ],
    ids=str,
)
def test_equals_the_separate_steps(classes, map_size, size, enlarged, align_corners, score):
    logits = logits_of(classes, *map_size)
    wanted, classes_wanted = expected(logits, size, enlarged, align_corners, score)
    found, segmentation = score_map(logits, size, enlarged, align_corners=align_corners, score=score)
    assert found.dtype == torch.float32 and segmentation.dtype == torch.uint8
    assert found.shape == segmentation.shape == size
    scale = max((wanted.max() - wanted.min()).item(), 1)
    assert (found - wanted).abs().max() <= 2e-6 * scale
    assert (segmentation == classes_wanted).float().mean() > 0.9999


@pytest.mark.parametrize("layout", ["channels last", "mirrored view", "every other"])
def test_takes_any_strides(layout):
    logits = logits_of(5, 6, 7)
    if layout == "channels last":
        other = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    elif layout == "mirrored view":
        other = logits.transpose(1, 2).contiguous().transpose(1, 2)
    else:
        other = torch.zeros(5, 12, 14)[:, ::2, ::2].copy_(logits)
    for wanted, found in zip(score_map(logits, (40, 50), (40, 50)), score_map(other, (40, 50), (40, 50)), strict=True):
        assert torch.equal(wanted, found)


def test_the_first_of_equal_classes_is_the_segmentation():
    _, segmentation = score_map(torch.zeros(7, 4, 4), (9, 9), (9, 9))
    assert (segmentation == 0).all()


@compiled
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("score", SCORES)
def test_a_logit_that_is_not_finite_shows(value, score):
    logits = logits_of(4, 5, 5)
    logits[2, 2, 2] = value
    found, _ = score_map(logits, (25, 25), (25, 25), score=score)
    assert not found[10:15, 10:15].isfinite().any()
    assert found[:5].isfinite().all()


@compiled
def test_the_same_bits_at_any_number_of_threads():
    logits = logits_of(19, 20, 30)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(score_map(logits, (161, 243), (161, 243)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@compiled
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3), (4, 4), (4, 4)), r"logits: expected shape \[K, h, w\].*got \[2, 3\]"),
        ((torch.zeros(2, 3, 0), (4, 4), (4, 4)), r"logits: expected shape"),
        ((torch.zeros(257, 3, 3), (4, 4), (4, 4)), r"1 to 256 classes"),
        ((torch.zeros(2, 3, 3).double(), (4, 4), (4, 4)), r"logits: expected dtype float32, got torch.float64"),
        ((torch.zeros(2, 3, 3), (4, 4), (3, 4)), r"enlarged_height, enlarged_width: expected at least .*got 3 x 4"),
        ((torch.zeros(2, 3, 3), (0, 4), (4, 4)), r"enlarged_height"),
    ],
)
def test_bad_arguments_are_told(arguments, message):
    with pytest.raises(RuntimeError, match=message):
        score_map(*arguments)


@compiled
def test_an_unknown_score_is_told():
    with pytest.raises(RuntimeError, match="score: expected energy, max_logit, max_softmax or entropy, got rba"):
        score_map(torch.zeros(2, 3, 3), (4, 4), (4, 4), score="rba")


def test_opcheck():
    torch.library.opcheck(torch.ops.rwpm.score_map.default, (logits_of(3, 4, 5), 30, 40, 32, 40))
