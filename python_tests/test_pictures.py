"""Figures stand up to odd sizes, constant maps and broken pixels."""

from __future__ import annotations

import builtins
import io

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from rwpm_fast.pictures import _counts, _shrink, figure_bytes, panel, roc_pr_figure, score_range


def maps(size: tuple[int, int], seed: int = 0):
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    before, after = rng.standard_normal((2, *size)).astype(np.float32)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), size, p=[0.8, 0.15, 0.05])
    return photo, before, after, labels


def picture(figure) -> Image.Image:
    return Image.open(io.BytesIO(figure_bytes(figure))).convert("RGB")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 53), (90, 31), (64, 128)], ids=str)
def test_panel_draws_any_size(size):
    photo, before, after, labels = maps(size)
    image = picture(panel(photo, before, after, labels=labels, caption="a < b"))
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 10


def test_panel_of_a_large_photo_is_a_small_file():
    photo, before, after, _ = maps((1024, 2048))
    smooth = np.linspace(-1, 1, 2048)[None] * np.linspace(0, 1, 1024)[:, None]
    assert len(figure_bytes(panel(photo, smooth + 0.1 * before, smooth + 0.1 * after))) < 1.5e6
    assert _shrink(photo).shape == (342, 683, 3)


def test_scores_share_one_range_and_the_difference_is_centred():
    photo, before, after, labels = maps((40, 60))
    figure = panel(photo, before, 3 * after, labels=labels)
    _, difference, first, second = (ax.images[0] for ax in figure.axes[:4])
    assert first.get_clim() == second.get_clim() == score_range(before, 3 * after, labels)
    low, high = difference.get_clim()
    assert low == -high < 0


@pytest.mark.parametrize("value", [0.0, -7.5])
def test_constant_maps(value):
    photo, *_ = maps((20, 30))
    constant = np.full((20, 30), value)
    assert score_range(constant, constant) == (value - 0.5, value + 0.5)
    picture(panel(photo, constant, constant))


def test_broken_scores_are_grey_and_leave_the_range_alone():
    photo, before, after, _ = maps((40, 60))
    broken = before.copy()
    broken[:20, :30], broken[0, 0], broken[0, 1] = np.nan, np.inf, -np.inf
    counted = np.concatenate([broken[np.isfinite(broken)], after.ravel()])
    assert score_range(broken, after) == pytest.approx(np.percentile(counted, (1, 99.9)))
    figure = panel(photo, broken, after)
    shown = figure.axes[2].images[0]
    assert shown.get_array().mask[:20, :30].all()
    assert shown.cmap(np.ma.masked) == pytest.approx((0x8C / 255,) * 3 + (1,))
    picture(panel(photo, np.full_like(before, np.nan), np.full_like(before, np.nan)))


def test_void_is_grey_and_out_of_the_range():
    photo, before, after, labels = maps((40, 60))
    before[labels == 255] = 1e6
    assert score_range(before, after, labels)[1] < 10
    figure = panel(photo, before, after, labels=labels)
    assert (figure.axes[2].images[0].get_array().mask == (labels == 255)).all()


@pytest.mark.parametrize("only", [0, 1, 255])
def test_labels_of_one_kind(only):
    photo, before, after, labels = maps((20, 30))
    picture(panel(photo, before, after, labels=np.full_like(labels, only)))
    with pytest.raises(ValueError, match="labels"):
        roc_pr_figure(before, after, np.full_like(labels, only))


def test_tensors_draw_the_same_picture_as_arrays():
    arrays = maps((24, 32))
    photo, before, after, labels = (torch.from_numpy(array) for array in arrays)
    figure = panel(photo, before.requires_grad_(), after, labels=labels)
    assert figure_bytes(figure) == figure_bytes(panel(*arrays[:3], labels=arrays[3]))
    picture(panel(photo, before.bfloat16(), after.half()))


def test_inputs_are_not_written_to():
    given = maps((24, 32))
    kept = [array.copy() for array in given]
    panel(*given[:3], labels=given[3])
    assert all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("photo", lambda maps: (maps[0][:-1], *maps[1:])),
        ("photo", lambda maps: (maps[0][..., :1], *maps[1:])),
        ("before", lambda maps: (maps[0], maps[1][None], *maps[2:])),
        ("after", lambda maps: (*maps[:2], maps[2][:, :-1], maps[3])),
        ("labels", lambda maps: (*maps[:3], maps[3].T)),
    ],
)
def test_shapes_that_disagree(name, change):
    photo, before, after, labels = change(maps((24, 32)))
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        panel(photo, before, after, labels=labels)


def test_curves_are_those_of_scikit_learn():
    _, before, _, labels = maps((60, 80))
    anomaly = labels.ravel() == 1
    score = np.round(before.ravel() + anomaly, 1)
    false_positives, true_positives = _counts(score, anomaly, points=10**5)
    x, y = false_positives / (~anomaly).sum(), true_positives / anomaly.sum()
    assert np.trapezoid(np.r_[0, y], np.r_[0, x]) == pytest.approx(roc_auc_score(anomaly, score))
    precision = true_positives / (true_positives + false_positives)
    assert (np.diff(y, prepend=0) * precision).sum() == pytest.approx(average_precision_score(anomaly, score))


def test_curves_are_thinned_to_their_end():
    rng = np.random.default_rng(0)
    anomaly = rng.random(200_000) < 0.01
    false_positives, true_positives = _counts(rng.standard_normal(len(anomaly)), anomaly)
    assert len(false_positives) <= 1001
    assert false_positives[-1] + true_positives[-1] == len(anomaly)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    load = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    photo, before, after, _ = maps((8, 8))
    with pytest.raises(ModuleNotFoundError, match=r"rwpm_fast\[cli\]"):
        panel(photo, before, after)
