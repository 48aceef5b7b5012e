"""The figure of several photos: what is in its cells, and photos of different sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from python_tests.viz.test_figures import picture
from rwpm_fast.viz.grid import TRUTH_COLORS, grid_row, photo_grid


def parts(height: int, width: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, : width // 2], labels[-2:] = 1, 255
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), labels, rng.random((2, height, width))


def test_void_is_gray_in_every_column():
    photo, labels, scores = parts(24, 40)
    scores[:, -2:] = 1e9
    row = grid_row("street", photo, labels, scores)
    assert all(np.isnan(score[-2:]).all() and np.isfinite(score[:-2]).all() for score in row.scores)
    assert (row.truth[-2:] == TRUTH_COLORS["void"]).all()
    assert (row.truth[:12, :20] == TRUTH_COLORS["anomaly"]).all()
    assert (row.truth[12:-2] == TRUTH_COLORS["inlier"]).all()
    assert (row.photo[:-2] == photo[:-2]).all() and np.ptp(row.photo[-2:]) < 0.5 * np.ptp(photo[-2:])


def test_rows_of_several_sizes_share_the_range_of_a_column():
    rows = [
        grid_row(f"photo_{seed} of a very long name that is cut" * 3, *parts(*size, seed))
        for seed, size in enumerate([(20, 44), (31, 30)])
    ]
    figure = photo_grid(rows, ["entropy", "ours"])
    cells = np.reshape(figure.axes, (2, 4))
    assert [ax.get_title(loc="left") for ax in cells[0]] == ["Photo", "Ground truth", "entropy", "ours"]
    for column, index in ((2, 0), (3, 1)):
        first, second = (ax.images[0].get_clim() for ax in cells[:, column])
        shown = np.concatenate([row.scores[index].ravel() for row in rows])
        assert first == second == tuple(np.percentile(shown[np.isfinite(shown)], (1, 99.9)))
    width = [ax.get_position().width for ax in cells[0]]
    assert max(width) < 1.01 * min(width)
    assert len(np.unique(np.asarray(picture(figure)).reshape(-1, 3), axis=0)) > 50


def test_large_photos_are_kept_small():
    photo, labels, scores = parts(300, 1201)
    row = grid_row("large", torch.from_numpy(photo), torch.from_numpy(labels), [torch.from_numpy(scores[0]).bfloat16()])
    assert row.photo.shape == (75, 301, 3) and row.scores[0].shape == (75, 301)
    assert abs(row.scores[0][:10].mean() - scores[0][:40].mean()) < 1e-2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": []}, "scores: expected one map or more, got none"),
        ({"scores": [np.zeros((4, 5))]}, r"scores: expected \[6, 5\] to match labels, got \[4, 5\]"),
        ({"photo": np.zeros((6, 5))}, r"photo: expected \[6, 5, 3\] to match labels, got \[6, 5\]"),
        ({"labels": np.zeros(6)}, r"labels: expected a map \[H, W\], got \[6\]"),
    ],
)
def test_maps_that_do_not_fit(changes, message):
    fitting = {"photo": np.zeros((6, 5, 3)), "labels": np.zeros((6, 5)), "scores": [np.zeros((6, 5))]}
    with pytest.raises(ValueError, match=message):
        grid_row("street", **{**fitting, **changes})


def test_rows_and_titles_that_do_not_fit():
    row = grid_row("street", *parts(6, 5))
    with pytest.raises(ValueError, match="rows: expected one or more, got none"):
        photo_grid([], ["entropy"])
    with pytest.raises(ValueError, match="titles: expected one for each of 2 score maps, got 1"):
        photo_grid([row], ["entropy"])
