"""Table 6: photos that tune are not reported, and figures are those of the parts."""

from __future__ import annotations

import numpy as np
import pytest

from python_tests.evaluate.labeled import labeled_photos
from python_tests.synboost.parts import SIZE, small_pipeline
from rwpm_fast.evaluate.ensemble_table import ensemble_table, halves, labeled_maps
from rwpm_fast.synboost.ensemble import PUBLISHED_WEIGHTS
from rwpm_fast.synboost.tuning import compare_ensembles, tuned_weights


@pytest.fixture
def frames(tmp_path):
    return labeled_photos(tmp_path, 5).frames


def test_labels_are_those_of_the_nearest_pixels(frames):
    maps, labels = labeled_maps(small_pipeline(), frames[0])
    assert maps.shape == (4, *SIZE) and labels.shape == SIZE and maps.device.type == "cpu"
    stored = frames[0].read_labels()
    rows, columns = (
        (2 * np.arange(small) + 1) * full // (2 * small) for small, full in zip(SIZE, (40, 72), strict=True)
    )
    assert np.array_equal(labels, stored[rows[:, None], columns])


def test_table_is_that_of_its_splits(frames):
    chain, seen = small_pipeline(), []
    tuning, reported = halves(frames)
    assert [frame.id for frame in tuning] == ["0", "1", "2"] and [frame.id for frame in reported] == ["3", "4"]
    table = ensemble_table(
        chain,
        tuning,
        {"fishyscapes_static": reported},
        titles={"fishyscapes_static": "Static"},
        on_image=lambda photo, failure: seen.append((photo.stem, failure)),
    )
    weights = tuned_weights([labeled_maps(chain, frame) for frame in tuning])
    expected = compare_ensembles(weights, [labeled_maps(chain, frame) for frame in reported])
    assert seen == [(name, None) for name in "01234"]
    assert [row[1] for row in table.rows] == [
        "dissimilarity network alone",
        *(f"{name} alone" for name in ("entropy", "perceptual", "distance")),
        "published weights",
        "grid search",
        "end to end",
    ]
    for row, wanted in zip(table.rows, expected, strict=True):
        assert row[0] == "Static" and row[2:6] == list(wanted.weights)
        assert row[6:8] == [100 * wanted.result.ap, 100 * wanted.result.fpr95]
    assert table.rows[4][2:6] == list(PUBLISHED_WEIGHTS)
    assert [row[8:] for row in table.rows[4:]] == [[None, None], [61.5, 25.6], [61.1, 37.3]]
    assert table.source and not table.failures


def test_broken_photo_stops_no_other(frames):
    frames[1].photo.write_bytes(b"no photo")
    table = ensemble_table(small_pipeline(), frames[:1], {"mine": frames[1:3]})
    assert list(table.failures) == [str(frames[1].photo)] and table.rows[0][6] > 0
    assert table.source == "" and table.rows[0][0] == "mine"


def test_reported_photos_do_not_tune(frames):
    with pytest.raises(ValueError, match=r"reported: expected photos that the weights are not tuned on, got .*2\.png"):
        ensemble_table(small_pipeline(), frames[::2], {"mine": frames[2:3]})
