"""Component metrics against golden numbers of road-anomaly-benchmark, ``SegEval`` of both tracks.

Declared choices: the threshold is rounded to the type of the scores, as under NumPy 1; means without anything to
average are NaN, and F1 is NaN only where nothing is true and nothing predicted; a NaN score on a valid pixel is a
ValueError; images without a valid pixel add nothing to the threshold.
"""

import json
import math
from functools import lru_cache

import numpy as np
import pytest

from python_tests.places import CONFORMANCE
from rwpm_fast.metrics import TRACKS, ComponentMetrics, component_metrics
from rwpm_fast.metrics.components import match_components

FOLDER = CONFORMANCE / "metrics"

CASES = [
    (path.stem, track)
    for path in sorted(FOLDER.glob("*.json"))
    for track in json.loads(path.read_text()).get("components", {})
]
every_case = pytest.mark.parametrize(("name", "track"), CASES)
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no golden vectors in {FOLDER}; set RWPM_CONFORMANCE to their root"
)


@lru_cache(maxsize=2)
def load(name):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return json.loads((FOLDER / f"{name}.json").read_text()), arrays["scores"], arrays["labels"]


def golden(name, track):
    """Golden numbers of a case, its scores and labels; None where a valid pixel is NaN, which is refused."""
    case, scores, labels = load(name)
    if np.isnan(scores[labels < 255]).any():
        with pytest.raises(ValueError, match="scores: expected no NaN"):
            component_metrics(lambda: zip(scores, labels, strict=True), track)
        return None
    return case["components"][track], scores, labels


def run(scores, labels, threshold, track):
    metrics = ComponentMetrics(threshold, track)
    for image in zip(scores, labels, strict=True):
        metrics.update(*image)
    return metrics.compute()


def close(wanted):
    return pytest.approx(float(wanted), rel=0, abs=1e-9, nan_ok=True)


def assert_equals(result, expected):
    assert (result.true, result.predicted) == (expected["num_gt_components"], expected["num_pred_components"])
    counts = {f"{100 * c.threshold:.0f}": [c.tp, c.fn, c.fp] for c in result.by_threshold}
    assert counts == expected["tp_fn_fp_by_threshold"]
    aggregate = expected["aggregate"]
    if "error" in aggregate:  # neither true nor predicted components
        assert all(math.isnan(number) for number in (result.siou, result.ppv, result.f1))
        return
    assert result.siou == close(aggregate["sIoU_gt_mean"])
    assert result.ppv == close(aggregate["ppv_mean"])
    assert result.f1 == close(aggregate["f1_mean"])
    for index, percent in ((0, 25), (5, 50), (10, 75)):
        assert result.by_threshold[index].f1 == close(aggregate[f"f1_{percent}"])


@every_case
def test_conformance_components(name, track):
    found = golden(name, track)
    if found is None:
        return
    expected, scores, labels = found
    if "not_run" in expected:  # the original fails on an image without a valid pixel, and has no threshold
        _, result = component_metrics(lambda: zip(scores, labels, strict=True), track)
        known = [image for image in zip(scores, labels, strict=True) if (image[1] < 255).any()]
        _, wanted = component_metrics(lambda: known, track)
        assert str({**result.as_dict(), "images": 0}) == str({**wanted.as_dict(), "images": 0})
        assert result.images == len(scores)
        assert bool(known) or math.isnan(result.f1)
        return
    assert_equals(run(scores, labels, expected["threshold"], track), expected)


@every_case
def test_conformance_components_of_each_image(name, track):
    found = golden(name, track)
    if found is None or "not_run" in found[0]:
        return
    expected, scores, labels = found
    predicted = scores > scores.dtype.type(expected["threshold"])
    for mask, label, frame in zip(predicted, labels, expected["frames"], strict=True):
        got = match_components(mask, label, TRACKS[track])
        pairs = (
            (got.siou, "sIoU_gt"),
            (got.true_sizes, "size_gt"),
            (got.ppv, "ppv_pred"),
            (got.predicted_sizes, "size_pred"),
        )
        for ours, key in pairs:
            np.testing.assert_allclose(np.sort(ours), np.sort(frame[key]), rtol=0, atol=1e-9)


@every_case
def test_conformance_two_passes(name, track):
    """The threshold found on the way selects the same pixels, so the components are the same."""
    found = golden(name, track)
    if found is None or "not_run" in found[0] or "explicit_threshold" in load(name)[0]:
        return
    expected, scores, labels = found
    pixels, result = component_metrics(lambda: zip(scores, labels, strict=True), track)
    assert result.score_threshold == pixels.best_f1_threshold
    if pixels.positives:  # without any every threshold has the F1 0
        assert_equals(result, expected)


def test_conformance_has_components_of_both_tracks():
    assert {track for _, track in CASES} == TRACKS.keys() - {"generic"}
    assert len(CASES) == 2 * len({name for name, _ in CASES})
