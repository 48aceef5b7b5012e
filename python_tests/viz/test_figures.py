"""Figures of odd sizes, constant maps and broken pixels are right."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from rwpm_fast.metrics import Curve, PixelMetrics
from rwpm_fast.viz.figures import downsample, figure_bytes, panel, roc_pr_figure, score_panel, score_range


def maps(size: tuple[int, int], seed: int = 0):
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    before, after = rng.standard_normal((2, *size)).astype(np.float32)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), size, p=[0.8, 0.15, 0.05])
    return photo, before, after, labels


def curve(score, labels) -> Curve:
    metrics = PixelMetrics()
    metrics.update(score, labels)
    return metrics.curve()


def picture(figure) -> Image.Image:
    return Image.open(io.BytesIO(figure_bytes(figure))).convert("RGB")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (90, 31)], ids=str)
def test_panel_draws_any_size(size):
    photo, before, after, labels = maps(size)
    image = picture(panel(photo, before, after, labels=labels, caption="a < b"))
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 10


def test_panel_of_a_large_photo_is_a_small_file():
    photo, before, after, _ = maps((1024, 2048))
    smooth = np.linspace(-1, 1, 2048)[None] * np.linspace(0, 1, 1024)[:, None]
    assert len(figure_bytes(panel(photo, smooth + 0.1 * before, smooth + 0.1 * after))) < 1.5e6
    assert downsample(photo).shape == (342, 683, 3)


def test_scores_share_one_range_and_the_difference_is_centered():
    photo, before, after, labels = maps((40, 60))
    figure = panel(photo, before, 3 * after, labels=labels)
    _, difference, first, second = (ax.images[0] for ax in figure.axes[:4])
    assert first.get_clim() == second.get_clim() == score_range([before, 3 * after], labels)
    low, high = difference.get_clim()
    assert low == -high < 0


@pytest.mark.parametrize("value", [0.0, -7.5])
def test_constant_maps(value):
    photo, *_ = maps((20, 30))
    constant = np.full((20, 30), value)
    assert score_range([constant, constant]) == (value - 0.5, value + 0.5)
    picture(panel(photo, constant, constant))


def test_broken_scores_are_gray_and_leave_the_range_alone():
    photo, before, after, _ = maps((40, 60))
    broken = before.copy()
    broken[:20, :30], broken[0, 0], broken[0, 1] = np.nan, np.inf, -np.inf
    counted = np.concatenate([broken[np.isfinite(broken)], after.ravel()])
    assert score_range([broken, after]) == pytest.approx(np.percentile(counted, (1, 99.9)))
    figure = panel(photo, broken, after)
    shown = figure.axes[2].images[0]
    assert shown.get_array().mask[:20, :30].all()
    assert shown.cmap(np.ma.masked) == pytest.approx((0x8C / 255,) * 3 + (1,))
    picture(panel(photo, np.full_like(before, np.nan), np.full_like(before, np.nan)))


def test_void_is_gray_and_out_of_the_range():
    photo, before, after, labels = maps((40, 60))
    before[labels == 255] = 1e6
    assert score_range([before, after], labels)[1] < 10
    figure = panel(photo, before, after, labels=labels)
    assert (figure.axes[2].images[0].get_array().mask == (labels == 255)).all()


@pytest.mark.parametrize("only", [0, 1, 255])
def test_labels_of_one_kind(only):
    photo, before, after, labels = maps((20, 30))
    picture(panel(photo, before, after, labels=np.full_like(labels, only)))
    with pytest.raises(
        ValueError, match=r"^curves: with: expected pixels of anomalies and of inliers, got \d+ and \d+"
    ):
        roc_pr_figure({"without": curve(before, labels), "with": curve(after, np.full_like(labels, only))})


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


def test_a_score_alone():
    photo, score, _, _ = maps((24, 32))
    figure = score_panel(photo, score, title="SynBoost")
    drawn = figure.axes[1].images[0]
    np.testing.assert_allclose(drawn.get_array(), score, rtol=1e-6)
    assert drawn.get_clim() == score_range([score]) and figure.axes[1].get_title(loc="left") == "SynBoost"
    assert len(np.unique(np.asarray(picture(figure)).reshape(-1, 3), axis=0)) > 10
    with pytest.raises(ValueError, match=r"^photo: expected \[24, 32, 3\]"):
        score_panel(photo[:-1], score)


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_curves_are_those_of_scikit_learn(decimals):
    _, before, _, labels = maps((20, 30))
    counted = labels != 255
    score = np.round(before + (labels == 1), decimals)
    figure = roc_pr_figure({"ours": curve(score, labels)})
    (roc, *_), (precision_recall,) = (ax.lines for ax in figure.axes)
    area = np.trapezoid(roc.get_ydata(), roc.get_xdata())
    assert area == pytest.approx(roc_auc_score(labels[counted], score[counted]), abs=1e-12)
    x, y, _ = roc_curve(labels[counted], score[counted])
    ours = np.array(roc.get_data())
    # both curves only rise, so points of equal x + y are the same point
    assert np.interp(x + y, ours.sum(axis=0), ours[0]) == pytest.approx(x, abs=1e-12)
    assert precision_recall.get_drawstyle() == "steps-pre"
    recall, precision = precision_recall.get_data()
    area = np.dot(np.diff(recall), precision[1:])
    assert area == pytest.approx(average_precision_score(labels[counted], score[counted]), abs=1e-12)


def test_long_curves_are_thinned():
    _, before, _, labels = maps((300, 400))
    full = curve(before, labels)
    figure = roc_pr_figure({"ours": full})
    recall, _ = figure.axes[1].lines[0].get_data()
    assert len(recall) <= 1001 < len(full.tp)


def test_many_curves_differ_in_color_or_line_style():
    _, before, _, labels = maps((20, 30))
    one = curve(before, labels)
    figure = roc_pr_figure({f"tau = {i}": one for i in range(12)})
    for ax in figure.axes:
        drawn = [line for line in ax.lines if len(line.get_xdata()) > 2]
        assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 12
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"tau = {i}" for i in range(12)]
    with pytest.raises(ValueError, match=r"^curves: expected one or more, got none"):
        roc_pr_figure({})


def test_lossy_formats_have_a_quality():
    photo, before, after, _ = maps((40, 60))
    figure = panel(photo, before, after)
    poor, good = (figure_bytes(figure, "webp", quality=quality) for quality in (20, 90))
    assert len(poor) < len(good)
    assert Image.open(io.BytesIO(good)).format == "WEBP"


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    photo, before, after, _ = maps((8, 8))
    with pytest.raises(ImportError, match=r"rwpm-fast\[cli\]"):
        panel(photo, before, after)


def test_the_anchored_walk_has_a_column_of_its_own():
    photo, before, after, _ = maps((40, 60))
    published = before + 1
    figure = panel(photo, before, after, published=published, own_weights=np.eye(5))
    titles = [ax.get_title(loc="left") for ax in figure.axes[:6]]
    assert titles == [
        "Photo",
        "Weight of a pixel's own value, 0 to 1",
        "Difference",
        "Without the walk",
        "With the published walk",
        "With the walk",
    ]
    assert np.array_equal(figure.axes[1].images[0].get_array(), np.eye(5))
    ranges = {ax.images[0].get_clim() for ax in figure.axes[3:6]}
    assert ranges == {score_range([before, published, after])}
