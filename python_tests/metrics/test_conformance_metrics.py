"""Pixel metrics against golden numbers of the public evaluation codes.

Every case found is run; a case without pixel numbers (components only) is none of these tests. Declared choices where
the originals disagree or fail:

* a NaN score on a valid pixel is a ValueError;
* no positives: auroc, ap and fpr95 are NaN; no negatives: auroc and fpr95 are NaN and ap is 1;
* infinite scores are ranked under every rule; where an original raised or returned nothing, areas are still exact;
* an image without a valid pixel adds nothing, to the binned metrics too;
* equal thresholds are one point of the binned curve, and quantile positions are exact;
* uniform bins count float16 scores against the edges, not by an index rounded to float16.
"""

import json
import math
from functools import lru_cache

import numpy as np
import pytest

from python_tests.places import CONFORMANCE
from rwpm_fast.metrics import BinnedPixelMetrics, PixelMetrics

FOLDER = CONFORMANCE / "metrics"

FPR_RULE = {"fishyscapes": "fishyscapes", "rwpm_rba": "rwpm", "pebal": "pebal", "mask2anomaly": "mask2anomaly"}
BINS = {"smiyc": "quantile", "smiyc_uniform_bins": "uniform"}
VARIATIONS = ("smiyc_all_ties_collapsed", "smiyc_exact_quantiles")

COUNTS = ("images", "positives", "negatives")
CURVE_NUMBERS = ("auroc", "ap", "fpr95")
BINNED_NUMBERS = (*CURVE_NUMBERS, "best_f1")


def cases(keys):
    """Every pair of a case and a key of its pixel numbers that is among these."""
    found = {path.stem: json.loads(path.read_text()).get("pixel", {}) for path in sorted(FOLDER.glob("*.json"))}
    return pytest.mark.parametrize(
        ("name", "key"), [(name, key) for name, pixel in found.items() for key in pixel if key in keys]
    )


needs_cases = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no golden vectors in {FOLDER}; set RWPM_CONFORMANCE to their root"
)


@lru_cache(maxsize=1)
def load(name):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return json.loads((FOLDER / f"{name}.json").read_text()), arrays["scores"], arrays["labels"]


def accumulate(key, scores, labels):
    metrics = PixelMetrics(FPR_RULE[key]) if key in FPR_RULE else BinnedPixelMetrics(BINS[key])
    for image in zip(scores, labels, strict=True):
        metrics.update(*image)
    return metrics.compute()


def evaluate(name, key):
    """Result of a case, with its counts checked; None where the declared choices already say everything."""
    case, scores, labels = load(name)
    if np.isnan(scores[labels < 255]).any():
        with pytest.raises(ValueError, match="scores: expected no NaN"):
            accumulate(key, scores, labels)
        return None
    result = accumulate(key, scores, labels)
    assert {count: getattr(result, count) for count in COUNTS} == {count: case["counts"][count] for count in COUNTS}
    if not result.positives:
        assert all(math.isnan(getattr(result, number)) for number in CURVE_NUMBERS)
        return None
    return result


def differences(result, golden, names, tolerance):
    """Numbers that differ, as (ours, golden); numbers that the original does not have are not compared."""
    pairs = {name: (getattr(result, name), float(golden[name])) for name in names if name in golden}
    return {
        name: (ours, wanted)
        for name, (ours, wanted) in pairs.items()
        if ours != pytest.approx(wanted, rel=0, abs=tolerance, nan_ok=True)
    }


@needs_cases
def test_conformance_knows_every_pixel_metric():
    keys = {key for path in FOLDER.glob("*.json") for key in json.loads(path.read_text()).get("pixel", {})}
    assert keys
    assert keys <= set(FPR_RULE) | set(BINS)


@needs_cases
@cases(FPR_RULE)
def test_conformance_exact_metrics(name, key):
    result = evaluate(name, key)
    if result is None:
        return
    case, scores, labels = load(name)
    golden = case["pixel"][key]
    if "auroc" in golden:
        assert not differences(result, golden, CURVE_NUMBERS, 1e-9)
    else:
        assert not differences(result, case["pixel"]["fishyscapes"], ("auroc", "ap"), 1e-9)
        # Ranks are all that counts, so an infinite score may be any number above the others.
        ranks = np.unique(scores, return_inverse=True)[1].reshape(scores.shape).astype(np.float32)
        assert not differences(result, vars(accumulate(key, ranks, labels)), ("fpr95",), 0)


def binned_tolerance(case, key, scores, labels):
    """Bound for a binned metric: 1e-9, except where an edge may legitimately be rounded differently.

    That moves single pixels by a bin, which is little among many pixels, and more where most of them are tied. It is no
    excuse in small cases, nor in cases that have the numbers of the original with all ties collapsed.
    """
    if key == "smiyc_uniform_bins" and scores.dtype == np.float16:
        return 5e-4
    known = scores[labels < 255]
    if known.size < 20_000 or "smiyc_all_ties_collapsed" in case.get("alternatives", {}):
        return 1e-9
    largest_tie = np.unique(known, return_counts=True)[1].max() / known.size
    return 2e-4 if largest_tie > 0.5 else 1e-4


@needs_cases
@cases(BINS)
def test_conformance_binned_metrics(name, key):
    result = evaluate(name, key)
    if result is None:
        return
    case, scores, labels = load(name)
    golden = case["pixel"][key]
    if "auroc" not in golden:
        keep = [image for image, label in enumerate(labels) if (label < 255).any()]
        assert not differences(result, vars(accumulate(key, scores[keep], labels[keep])), BINNED_NUMBERS, 0)
        assert not differences(result, case["pixel"]["fishyscapes"], CURVE_NUMBERS, 8e-3)
        return

    alternatives = case.get("alternatives", {}) if key == "smiyc" else {}
    accepted = [golden, *(alternatives[name] for name in VARIATIONS if name in alternatives)]
    tolerance = binned_tolerance(case, key, scores, labels)
    found = [differences(result, one, BINNED_NUMBERS, tolerance) for one in accepted]
    assert not all(found), found

    known = scores[labels < 255].astype(np.float64)
    thresholds = [one["best_f1_threshold"] for one, different in zip(accepted, found, strict=True) if not different]
    assert any(
        result.best_f1_threshold == pytest.approx(threshold, rel=1e-6)
        and np.array_equal(known > result.best_f1_threshold, known > threshold)
        for threshold in thresholds
    ), (result.best_f1_threshold, thresholds)
