"""Photos of an evaluation side by side: columns, order, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from python_tests.evaluate.labeled import labeled_photos
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.evaluate import EvaluationConfig, photo_figure, run
from rwpm_fast.evaluate.photo_figure import draw_photos


@pytest.fixture
def evaluated(tmp_path):
    """Five photos, scored by entropy and energy without and with a walk, and by another network."""
    scorer = Scorer(TinyNetwork(), walk=Walk(steps=2))
    config = EvaluationConfig(network=scorer, datasets=labeled_photos(tmp_path, 5), scores=["energy", "entropy"])
    return run(config)


@pytest.fixture
def drawn(monkeypatch):
    """Draw in no time; rows and titles of each figure."""
    drawn = []
    monkeypatch.setattr(photo_figure, "photo_grid", lambda rows, titles: drawn.append((rows, titles)) or "figure")
    return drawn


def aps(result, label="with", score="energy"):
    sweep = next(iter(result.sweeps.values()))
    return {image.frame.id: image.results[label, score].ap for image in sweep.used}


def test_entropy_comes_first_and_the_worst_photo_last(evaluated, drawn):
    assert draw_photos(evaluated) == "figure"
    ((rows, titles),) = drawn
    assert titles == ["Softmax entropy", "Softmax entropy, with", "energy", "energy, with"]
    ap = aps(evaluated)
    assert [row.caption for row in rows] == [
        f"AP {100 * ap[name]:.2f} %, {name}" for name in sorted(ap, key=ap.get, reverse=True)
    ]
    sweep = next(iter(evaluated.sweeps.values()))
    image = next(image for image in sweep.images if rows[0].caption.endswith(image.frame.id))
    void = image.frame.read_labels() == 255
    for score, key in zip(rows[0].scores, [("without", "entropy"), ("with", "entropy")], strict=False):
        np.testing.assert_allclose(score[~void], sweep.score_map(image, *key)[~void], rtol=1e-6)
        assert np.isnan(score[void]).all()


@pytest.mark.parametrize(("limit", "places"), [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (9, range(5))])
def test_chosen_photos_run_from_the_best_to_the_worst(evaluated, drawn, limit, places):
    draw_photos(evaluated, limit=limit)
    ap = aps(evaluated)
    ordered = sorted(ap, key=ap.get, reverse=True)
    assert [row.caption.split(", ")[1] for row in drawn[0][0]] == [ordered[place] for place in places]


def test_methods_on_the_same_photos_stand_side_by_side(evaluated, drawn):
    title, sweep = next(iter(evaluated.sweeps.items()))
    rows = [row for row in evaluated.rows if row.label == "without"]
    of_method = [replace(rows[0], dataset="other", score="resynthesis"), replace(rows[1], dataset="third")]
    other = replace(sweep, images=[replace(image) for image in sweep.images], results={})
    for image in other.images:
        image.results = {**image.results, ("without", "resynthesis"): image.results["without", "energy"]}
    sweeps = {title: sweep, "other": other, "third": sweep}
    result = replace(evaluated, rows=[rows[0], *of_method], sweeps=sweeps)
    other.cache.score_map = lambda key, score, read=sweep.cache.score_map: read(
        key, "energy" if score == "resynthesis" else score
    )
    draw_photos(result)
    assert drawn[0][1] == ["Softmax entropy", "Image Resynthesis++", "energy"]
    assert len(drawn[0][0]) == 5


def test_photos_that_failed_or_have_no_anomaly_are_left_out(tmp_path, drawn):
    dataset = labeled_photos(tmp_path, 4)
    dataset.frames[0].photo.write_bytes(b"no photo")
    dataset.frames[1].label.write_bytes(labeled_photos(tmp_path / "clean", 1).frames[0].label.read_bytes())
    clean = replace(dataset.frames[1], values=replace(dataset.frames[1].values, anomaly=frozenset([7])))
    dataset = replace(dataset, frames=(dataset.frames[0], clean, *dataset.frames[2:]))
    draw_photos(run(EvaluationConfig(network=Scorer(TinyNetwork()), datasets=dataset)))
    assert {row.caption.split(", ")[1] for row in drawn[0][0]} == {"2", "3"}


def test_nothing_to_draw(evaluated):
    with pytest.raises(ValueError, match="limit: expected 1 or more, got 0"):
        draw_photos(evaluated, limit=0)
    sweep = next(iter(evaluated.sweeps.values()))
    for image in sweep.images:
        image.failure = "broken"
    with pytest.raises(ValueError, match="result: expected a photo with an anomaly and an inlier, got none"):
        draw_photos(evaluated)


def test_data_sets_with_other_columns(evaluated):
    title, sweep = next(iter(evaluated.sweeps.items()))
    rows = [*evaluated.rows, replace(evaluated.rows[0], dataset="other")]
    result = replace(evaluated, rows=rows, sweeps={title: sweep, "other": replace(sweep, images=sweep.images[:2])})
    with pytest.raises(ValueError, match="result: expected the same scores of all data sets"):
        draw_photos(result)
