"""Scores in color over a photo, and the chart of latencies."""

import numpy as np
import pytest

from rwpm_fast.viz.figures import figure_bytes
from rwpm_fast.viz.latency import latency_chart
from rwpm_fast.viz.overlay import Overlay

pytest.importorskip("matplotlib")
PHOTO = np.full((8, 12, 3), (40, 90, 200), np.uint8)


def test_low_scores_leave_the_photo_and_high_ones_cover_it():
    score = np.zeros((8, 12))
    score[2, 3], score[4, 5], score[6, 7] = 1.0, 7.0, np.nan
    picture = Overlay((0.0, 1.0))(PHOTO, score)
    assert picture.shape == PHOTO.shape and picture.dtype == np.uint8
    assert (picture[0, 0] == PHOTO[0, 0]).all() and (picture[6, 7] == PHOTO[0, 0]).all()
    top = 0.8 * np.array([252, 255, 164]) + 0.2 * np.array([40, 90, 200])  # the end of inferno over the photo
    assert picture[2, 3] == pytest.approx(top, abs=2) and (picture[4, 5] == picture[2, 3]).all()


def test_a_range_that_follows_moves_slowly():
    overlay = Overlay()
    score = np.linspace(0, 1, 96).reshape(8, 12)
    first = overlay(PHOTO, score)
    assert (first[-1, -1] == Overlay((0.0, 1.0))(PHOTO, score)[-1, -1]).all()
    second = overlay(PHOTO, 2 * score)
    assert (second[4:, :] >= first[4:, :]).mean() > 0.6 and overlay._range[1] < 1.1
    for _ in range(200):
        overlay(PHOTO, 2 * score)
    assert overlay._range[1] == pytest.approx(2 * score[::4, ::4].max(), rel=0.02)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"photo: expected \[4, 4, 3\] to match the score, got \[8, 12, 3\]"):
        Overlay()(PHOTO, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="score_range: expected the lower end below"):
        Overlay((1.0, 1.0))


@pytest.mark.parametrize("count", [1, 300])
def test_the_chart_of_latencies_can_be_drawn(count):
    points = [(index, 0.05 + 0.01 * (index % 7)) for index in range(count)]
    stages = {"network": 0.02, "walk": 0.03}
    figure = latency_chart(points, {"p50": 0.05, "p99": 0.1}, stages, {"processed": count}, deadline=0.1)
    course, bars = figure.axes
    assert list(course.lines[0].get_xdata()) == list(range(count))
    assert course.get_legend().get_texts()[-1].get_text() == "deadline 100 ms"
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([20, 30])
    assert figure_bytes(figure)[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="points: expected one frame or more"):
        latency_chart([], {}, {}, {})
