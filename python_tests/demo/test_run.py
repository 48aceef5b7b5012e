"""The demo measures what it reports: scores, metrics, times and the agreement of the two walks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

pytest.importorskip("matplotlib")

from python_tests.helpers import Page
from rwpm_fast import Scorer, Walk, baselines, networks
from rwpm_fast.demo import demo_photo, demo_scene, render_report, run
from rwpm_fast.ops.settings import WalkSettings
from rwpm_fast.scenes import render_holdout_scene

SIZE = (96, 192)


@pytest.fixture(scope="module")
def network():
    return networks.load()


@pytest.fixture(scope="module")
def scorer(network):
    return Scorer(network, walk=Walk(steps=5))


@pytest.fixture(scope="module")
def result(scorer):
    return demo_scene(2, scorer, "rwpm-fast demo --seed 2", SIZE)


def test_scene_is_the_holdout_scene_of_the_seed(result):
    photo, labels = render_holdout_scene(2, SIZE)
    assert np.array_equal(result.photo, photo) and np.array_equal(result.labels, labels)
    assert result.title == "Street 2" and result.synthetic and result.command == "rwpm-fast demo --seed 2"


@pytest.mark.parametrize("walked", [False, True], ids=["before", "after"])
def test_scores_are_those_of_the_scorer(walked, result, scorer, network):
    expected = (scorer if walked else Scorer(network, walk=None))(result.photo).score
    np.testing.assert_array_equal(result.after if walked else result.before, expected.numpy())
    assert not np.array_equal(result.before, result.after)


@pytest.mark.parametrize("walked", [False, True], ids=["before", "after"])
def test_metrics_are_those_of_the_scores_and_labels(walked, result):
    score, metrics = (result.after, result.metrics_after) if walked else (result.before, result.metrics_before)
    counted = result.labels != 255
    anomaly = result.labels[counted] == 1
    assert metrics.ap == pytest.approx(average_precision_score(anomaly, score[counted]), abs=1e-9)
    assert metrics.auroc == pytest.approx(roc_auc_score(anomaly, score[counted]), abs=1e-9)
    assert (metrics.positives, metrics.negatives) == (anomaly.sum(), (~anomaly).sum())


@pytest.mark.parametrize(
    "settings",
    [{}, {"tolerance": 1e-3}, {"parts": 2}, {"alpha": 0.5, "temperature": 0.05}],
    ids=["exact", "tolerance", "sub-maps", "others"],
)
def test_walk_agrees_with_dense_torch(settings, network):
    settings = {"steps": 4, "tolerance": 0.0, **settings}
    result = demo_scene(2, Scorer(network, walk=Walk(**settings)), "", SIZE)
    assert result.agrees and 0 < result.difference <= result.difference_bound
    assert result.walk_settings == WalkSettings(**settings)
    assert result.walk.seconds > 0 and result.baseline.seconds > 0
    assert result.baseline.workspace_bytes == 4 * result.pixels**2
    exact = 4 * result.pixels * (result.channels + 3 * result.value_channels)
    assert result.walk.workspace_bytes == (None if settings["tolerance"] else exact)


@pytest.mark.parametrize(
    ("settings", "bound"),
    [({}, 1e-4), ({"tolerance": 1e-3}, 1e-4 + 0.04), ({"tolerance": 1e-3, "steps": 3}, 1e-4 + 0.006)],
    ids=["exact", "tolerance", "steps"],
)
def test_difference_bound_grows_with_tolerance_and_steps(settings, bound):
    assert run.difference_bound(WalkSettings(**settings)) == pytest.approx(bound)


@pytest.mark.parametrize(
    "wrong", [lambda walked: 1.01 * walked, lambda walked: walked * torch.nan], ids=["other values", "NaN"]
)
def test_walks_that_differ_do_not_agree(wrong, monkeypatch, scorer):
    dense = baselines.dense_walk
    monkeypatch.setattr(baselines, "dense_walk", lambda *args, **settings: wrong(dense(*args, **settings)))
    result = demo_scene(2, scorer, "", SIZE)
    assert not result.agrees
    page = Page(render_report(result))
    assert "do not agree" in page.text and "times faster" not in page.text and "times slower" not in page.text


def test_no_dense_walk_of_a_map_whose_matrix_is_too_large(monkeypatch, scorer):
    monkeypatch.setattr(run, "MAX_DENSE_BYTES", 4 * (12 * 24) ** 2 - 1)
    result = demo_scene(2, scorer, "", SIZE)
    assert result.pixels == 12 * 24
    assert result.baseline is None and result.difference is None and not result.agrees
    assert "dense torch" not in Page(render_report(result)).text


@pytest.mark.parametrize("size", [(16, 16), (70, 41), (33, 97)], ids=str)
def test_photo_of_any_size_has_scores_and_no_metrics(size, scorer):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = demo_photo(photo, "my photo.jpg", scorer, "rwpm-fast demo --photo 'my photo.jpg'")
    assert result.before.shape == result.after.shape == size and np.isfinite(result.after).all()
    assert result.labels is None and result.metrics_before is None and result.metrics_after is None
    assert result.title == "my photo.jpg" and not result.synthetic and result.agrees


def test_report_shows_network_score_and_machine(result):
    page = Page(render_report(result))
    assert (result.settings["network"], result.settings["score"]) == ("compact", "energy")
    assert set(result.environment) == {"rwpm_fast", "torch", "processor", "isa_chosen", "cores"}
    for text in (*result.settings.values(), *result.environment.values(), result.command, f"{result.pixels:,}"):
        assert text in page.text
    for metrics in (result.metrics_before, result.metrics_after):
        assert f"{100 * metrics.ap:.1f} %" in page.text


def test_walks_are_timed_in_turn(monkeypatch):
    now, calls = iter(range(1000)), []
    monkeypatch.setattr(run.time, "perf_counter", lambda: float(next(now)))
    walks = {name: lambda name=name: calls.append(name) or torch.tensor(len(calls)) for name in ("ours", "dense")}
    seconds, results = run._time_in_turn(walks)
    assert calls == ["ours", "dense"] * run.ROUNDS
    assert seconds == {"ours": 1.0, "dense": 1.0}
    assert results == {"ours": 2 * run.ROUNDS - 1, "dense": 2 * run.ROUNDS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, SIZE), "seed: expected 0 or more, got -1"), ((0, (8, 64)), "size: expected .* 16 pixels or more")],
    ids=["seed", "size"],
)
def test_bad_arguments(arguments, message, scorer):
    seed, size = arguments
    with pytest.raises(ValueError, match=message):
        demo_scene(seed, scorer, "", size)


def test_a_scorer_without_a_walk_is_refused(network):
    with pytest.raises(TypeError, match=r"scorer: expected one with a walk, rwpm_fast.Walk, got NoneType"):
        demo_scene(0, Scorer(network, walk=None), "", SIZE)


def test_shipped_network_finds_unknown_objects_and_the_walk_helps_on_average(network):
    scorer, gains = Scorer(network, walk=Walk()), []
    for seed in range(6):
        photo, labels = render_holdout_scene(seed, (256, 512))
        analysis = scorer.analyze(photo)
        counted = labels != 255
        anomaly = labels[counted] == 1
        with torch.inference_mode():
            before, after = (
                prediction.score(scorer.score).numpy()[counted] for prediction in (analysis.plain, analysis.walked)
            )
        assert roc_auc_score(anomaly, before) > 0.95
        assert roc_auc_score(anomaly, after) > 0.95
        gains.append(average_precision_score(anomaly, after) - average_precision_score(anomaly, before))
    assert np.mean(gains) > 0.03
