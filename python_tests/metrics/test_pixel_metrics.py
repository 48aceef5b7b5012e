"""Pixel metrics against scikit-learn and against their definitions."""

import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from rwpm_fast.metrics import FPR_RULES, BinnedPixelMetrics, BinnedPixelResult, PixelMetrics, PixelResult, pixel_metrics

BOTH = pytest.mark.parametrize("metrics", [PixelMetrics, BinnedPixelMetrics])


def pixel(scores, labels, rule="fishyscapes", **settings) -> PixelResult:
    metrics = PixelMetrics(rule, **settings)
    metrics.update(scores, labels)
    return metrics.compute()


def binned(scores, labels, bins="quantile") -> BinnedPixelResult:
    metrics = BinnedPixelMetrics(bins)
    metrics.update(scores, labels)
    return metrics.compute()


def valid(scores, labels):
    keep = (labels == 0) | (labels == 1)
    return scores[keep].astype(np.float64), labels[keep]


def expected_fpr95(scores, labels, rule):
    """FPR95 as each code base words it, on scikit-learn's ROC points."""
    scores, labels = valid(scores, labels)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=rule == "rwpm")
    if rule == "rwpm":
        return fpr[np.flatnonzero(tpr > 0.95)[0]]
    if rule == "mask2anomaly":
        return np.interp(0.95, tpr, fpr)
    if rule == "pebal":
        reached = np.flatnonzero(tpr == 1)[0]
        recalls, rates = tpr[1 : reached + 1][::-1], fpr[1 : reached + 1][::-1]
        return rates[np.argmin(np.abs(recalls - 0.95))]
    return fpr[np.flatnonzero(tpr >= 0.95)[0]]


def assert_equals_sklearn(scores, labels):
    known_scores, known_labels = valid(scores, labels)
    for rule in FPR_RULES:
        result = pixel(scores, labels, rule)
        assert result.auroc == pytest.approx(roc_auc_score(known_labels, known_scores), abs=1e-12)
        assert result.ap == pytest.approx(average_precision_score(known_labels, known_scores), abs=1e-12)
        assert result.fpr95 == pytest.approx(expected_fpr95(scores, labels, rule), abs=1e-12), rule
        assert (result.positives, result.negatives) == ((labels == 1).sum(), (labels == 0).sum())


@given(
    pixels=st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0, 0, 1, 255])), max_size=60),
    tail=st.lists(st.integers(0, 8), max_size=40),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_small_tied_sets_equal_sklearn(pixels, tail):
    # The fixed pair makes both classes present; the positives of the tail put many TPRs near 0.95.
    pixels = [(3, 0), (4, 1), *pixels, *((score, 1) for score in tail)]
    scores, labels = np.array(pixels).T
    assert_equals_sklearn(scores.astype(np.float32), labels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_large_sets_equal_sklearn(dtype, decimals):
    rng = np.random.default_rng(decimals)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), p=[0.8, 0.1, 0.1], size=(3, 50, 70))
    scores = (rng.normal(size=labels.shape) + labels % 2).round(decimals).astype(dtype)
    assert_equals_sklearn(scores, labels)


def test_float64_scores_are_not_rounded():
    scores = np.array([1.0, 1.0 + 1e-12])
    assert pixel(scores, np.array([0, 1])).auroc == 1
    mixed = PixelMetrics()
    mixed.update(np.float32([0.5]), np.array([1]))
    mixed.update(scores, np.array([0, 1]))
    assert mixed.compute().auroc == 0.5


def test_constant_scores():
    labels = np.array([[1, 0, 0, 0]])
    for rule in FPR_RULES:
        result = pixel(np.full((1, 4), -12.0, np.float16), labels, rule)
        assert (result.auroc, result.ap) == (0.5, 0.25)
        assert result.fpr95 == pytest.approx(0.95 if rule == "mask2anomaly" else 1, abs=1e-12)


def test_pebal_takes_the_larger_of_two_equally_near_recalls():
    # Recalls 55/60 and 59/60 lie equally far from 0.95, in floating point too.
    assert 0.95 - 55 / 60 == 59 / 60 - 0.95
    scores = np.repeat(np.float32([3, 2, 2, 1, 0]), [55, 4, 1, 1, 9])
    labels = np.repeat([1, 1, 0, 1, 0], [55, 4, 1, 1, 9])
    assert pixel(scores, labels, "pebal").fpr95 == 0.1


def test_infinite_scores_are_ranked():
    scores, labels = np.array([np.inf, 3, 2, -np.inf], np.float32), np.array([1, 0, 1, 0])
    finite = np.array([4, 3, 2, 1], np.float32)
    assert pixel(scores, labels) == pixel(finite, labels)
    assert binned(scores, labels).auroc == binned(finite, labels).auroc == 0.75


@BOTH
def test_nan_is_an_error_only_on_valid_pixels(metrics):
    scores = np.array([np.nan, 1, 2], np.float32)
    accumulator = metrics()
    with pytest.raises(ValueError, match="scores: expected no NaN on valid pixels, got 1"):
        accumulator.update(np.stack([np.zeros(3, np.float32), scores])[:, None], np.array([[[0, 0, 1]]] * 2))
    assert accumulator.compute().images == 0
    accumulator.update(scores, np.array([255, 0, 1]))
    assert accumulator.compute().auroc == 1


@BOTH
def test_wrong_input_changes_nothing(metrics):
    scores, labels = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8)
    accumulator = metrics()
    with pytest.raises(ValueError, match=r"labels: expected shape \[2, 3\] to match scores, got \[3, 2\]"):
        accumulator.update(scores, labels.T)
    with pytest.raises(TypeError, match="scores: expected float16, float32 or float64, got int64"):
        accumulator.update(scores.astype(np.int64), labels)
    with pytest.raises(TypeError, match="labels: expected integers or bool, got float32"):
        accumulator.update(scores, scores)
    with pytest.raises(TypeError, match="other: expected"):
        accumulator.merge(3)
    assert (accumulator.compute().images, accumulator.compute().negatives) == (0, 0)


def test_wrong_settings():
    with pytest.raises(ValueError, match=r"fpr_rule: expected one of fishyscapes.*got 'sklearn'"):
        PixelMetrics("sklearn")
    with pytest.raises(ValueError, match="fpr_rule"):
        PixelMetrics().compute("sklearn")
    with pytest.raises(ValueError, match="bins: expected one of quantile, uniform, got 'equal'"):
        BinnedPixelMetrics("equal")
    for metrics in PixelMetrics, BinnedPixelMetrics:
        with pytest.raises(ValueError, match=r"positive: .* got \[2\] in both"):
            metrics(positive=(1, 2), negative=(0, 2))
        with pytest.raises(ValueError, match="negative: expected at least one label value"):
            metrics(negative=())
    with pytest.raises(ValueError, match="other: expected uniform bins, got quantile"):
        BinnedPixelMetrics("uniform").merge(BinnedPixelMetrics())


@BOTH
def test_missing_classes(metrics):
    accumulator = metrics()

    def computed():
        result = accumulator.compute()
        return [result.auroc, result.ap, result.fpr95]

    assert all(map(math.isnan, computed()))
    accumulator.update(np.float32([1, 2]), np.array([255, 7]))
    assert all(map(math.isnan, computed()))
    accumulator.update(np.float32([1, 2]), np.array([0, 0]))
    assert all(map(math.isnan, computed()))
    accumulator.reset()
    accumulator.update(np.float32([1, 2]), np.array([1, 1]))
    assert computed() == pytest.approx([math.nan, 1, math.nan], nan_ok=True)


@BOTH
def test_label_values(metrics):
    scores = np.float32([5, 4, 3, 2, 1])
    road_anomaly = metrics(positive=(2,))
    road_anomaly.update(scores, np.array([1, 2, 0, 2, 0]))
    plain = metrics()
    plain.update(scores, np.array([255, 1, 0, 1, 0]))
    assert road_anomaly.compute() == plain.compute()

    both = metrics(positive=(1, 2), negative=(0, 3))
    both.update(scores, np.array([1, 2, 0, 2, 3]))
    assert (both.compute().positives, both.compute().negatives) == (3, 2)

    of_bool = metrics()
    of_bool.update(scores, np.array([True, False, True, False, False]))
    assert (of_bool.compute().positives, of_bool.compute().negatives) == (2, 3)


def random_images(number, shape=(23, 31)):
    rng = np.random.default_rng(number)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), p=[0.7, 0.2, 0.1], size=(number, *shape))
    return (rng.normal(size=labels.shape) + labels % 2).astype(np.float32), labels


@BOTH
def test_images_one_by_one_as_a_batch_and_merged(metrics):
    scores, labels = random_images(5)
    batch, single, first, second = metrics(), metrics(), metrics(), metrics()
    batch.update(scores[:, None], labels[:, None])
    for image in zip(scores, labels, strict=True):
        single.update(*image)
    first.update(scores[:2], labels[:2])
    second.update(scores[2:], labels[2:])
    before = second.compute()
    first.merge(second)
    assert batch.compute() == single.compute() == first.compute()
    assert batch.compute().images == 5
    assert second.compute() == before


def test_pooled_over_images_not_averaged():
    scores, labels = random_images(5)
    metrics = PixelMetrics()
    for image in zip(scores, labels, strict=True):
        metrics.update(*image)
        metrics.compute()  # a look in between must not disturb what follows
    known_scores, known_labels = valid(scores, labels)
    assert metrics.compute().auroc == pytest.approx(roc_auc_score(known_labels, known_scores), abs=1e-12)


def test_many_small_images_are_gathered(monkeypatch):
    scores, labels = random_images(12)
    whole = pixel(scores, labels)
    monkeypatch.setattr("rwpm_fast.metrics.pixel._Scores.BLOCK", 300)
    metrics, other = PixelMetrics(), PixelMetrics()
    for number, image in enumerate(zip(scores, labels, strict=True)):
        (metrics if number < 7 else other).update(*image)
    metrics.merge(other)
    assert metrics.compute() == whole


def test_the_input_is_not_touched():
    scores, labels = random_images(1)
    labels[:] = 1
    copy = scores.copy()
    pixel(scores, labels)
    binned(scores, labels)
    np.testing.assert_array_equal(scores, copy)


@BOTH
def test_tensors(metrics):
    torch = pytest.importorskip("torch")
    scores, labels = random_images(2)
    of_arrays, of_tensors = metrics(), metrics()
    of_arrays.update(scores, labels)
    of_tensors.update(torch.from_numpy(scores).requires_grad_(), torch.from_numpy(labels))
    assert of_tensors.compute() == of_arrays.compute()
    with pytest.raises(TypeError, match=r"scores: expected .* got torch.bfloat16"):
        of_tensors.update(torch.from_numpy(scores).bfloat16(), torch.from_numpy(labels))


@given(pixels=st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([0, 0, 1, 255])), max_size=80))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_few_pixels_have_an_edge_each(pixels):
    # With at most 384 pixels per class every score is a quantile: the binned numbers of one image are the exact ones.
    scores, labels = np.array([(1, 0), (2, 1), *pixels]).T
    scores = scores / 7
    exact, result = pixel(scores, labels), binned(scores, labels)
    assert result.auroc == pytest.approx(exact.auroc, abs=1e-12)
    assert result.ap == pytest.approx(exact.ap, abs=1e-12)
    assert result.fpr95 == exact.fpr95
    f1 = {}
    for threshold in scores[labels != 255]:
        taken = scores >= threshold
        tp, fp = (taken & (labels == 1)).sum(), (taken & (labels == 0)).sum()
        f1[threshold] = 2 * tp / (tp + fp + (labels == 1).sum())
    assert result.best_f1 == pytest.approx(max(f1.values()), abs=1e-12)
    assert result.best_f1_threshold == max(t for t in f1 if f1[t] == max(f1.values()))


def test_few_points_are_not_thinned():
    rng = np.random.default_rng(0)
    metrics = PixelMetrics()
    metrics.update(rng.normal(size=200).astype(np.float32), np.tile([0, 1], 100))
    curve = metrics.curve()
    assert curve.thinned(100) is curve
    assert PixelMetrics().curve().thinned(2).positives == 0


def test_thinned_curves_keep_ends_corners_and_areas():
    rng = np.random.default_rng(0)
    labels = (rng.random(200_000) < 0.03).astype(np.uint8)
    # the best negatives lie above every positive, the rest below most: long runs of either kind, with ties
    scores = (rng.normal(size=len(labels)) + 3 * labels).astype(np.float32).round(4)
    scores[np.flatnonzero(labels == 0)[:5000]] += 20
    metrics = PixelMetrics()
    metrics.update(scores, labels)
    curve = metrics.curve()
    thin = curve.thinned(1000)
    assert 500 <= len(thin.tp) <= 1000 < len(curve.tp)
    assert thin.thinned(1000) is thin
    assert (thin.positives, thin.negatives) == (curve.positives, curve.negatives)
    corners = {corner: index for index, corner in enumerate(zip(curve.tp, curve.fp, curve.fp_above, strict=True))}
    kept = [corners[corner] for corner in zip(thin.tp, thin.fp, thin.fp_above, strict=True)]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, len(curve.tp) - 1)
    # no step is longer than twice an even one, but where the curve itself has none between
    for full, some in ((curve.tp, thin.tp), (curve.fp, thin.fp)):
        assert np.diff(some).max() <= full[-1] / 499 + np.diff(full).max()
    assert thin.auroc() == pytest.approx(curve.auroc(), abs=2e-3)
    assert thin.ap() == pytest.approx(curve.ap(), abs=2e-3)


@pytest.mark.parametrize("bins", ["quantile", "uniform"])
def test_binned_is_near_exact(bins):
    scores, labels = random_images(4, shape=(100, 120))
    scores = 1 / (1 + np.exp(-scores))
    exact, result = pixel(scores, labels), binned(scores, labels, bins)
    assert (result.auroc, result.ap, result.fpr95) == pytest.approx((exact.auroc, exact.ap, exact.fpr95), abs=2e-3)
    assert result.ap != exact.ap
    assert (result.positives, result.negatives) == (exact.positives, exact.negatives)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_uniform_bins_count_against_their_edges(dtype):
    # One pixel of each class in neighboring bins, everywhere in the range.
    lower = np.linspace(-0.01, 1.01, 4097)[41:4000:37]
    scores = np.concatenate([lower + 0.0001, lower - 0.0001]).astype(dtype)
    labels = np.repeat([1, 0], len(lower))
    edges = np.unique(np.linspace(-0.01, 1.01, 4097).astype(dtype))
    in_bins = np.digitize(scores, edges).astype(np.float32)
    assert binned(scores, labels, "uniform").ap == pytest.approx(pixel(in_bins, labels).ap, abs=1e-12)


def test_uniform_bins_have_an_end():
    with pytest.raises(ValueError, match=r"scores: expected \[0, 1\] for uniform bins, got \[0.5, 2.0\]"):
        binned(np.float32([2, 0.5, 9]), np.array([0, 0, 255]), "uniform")
    assert binned(np.float32([0, 1]), np.array([0, 1]), "uniform").auroc == 1


def test_saturated_scores_do_not_depend_on_the_order_of_images():
    scores, labels = random_images(3)
    scores = scores.clip(0, 1)
    assert binned(scores, labels) == binned(scores[::-1], labels[::-1])
    assert binned(np.ones_like(scores), labels).auroc == 0.5


def test_binned_skips_images_without_a_valid_pixel():
    scores, labels = random_images(3)
    expected = binned(scores[[0, 2]], labels[[0, 2]])
    labels[1] = 255
    result = binned(scores, labels)
    assert result.images == 3
    assert (result.ap, result.best_f1, result.positives) == (expected.ap, expected.best_f1, expected.positives)


def test_best_f1_without_positives_or_pixels():
    nothing = binned(np.float32([1]), np.array([255]))
    assert math.isnan(nothing.best_f1)
    assert math.isnan(nothing.best_f1_threshold)
    inliers = binned(np.float32([1, 3]), np.array([0, 0]))
    assert (inliers.best_f1, inliers.best_f1_threshold) == (0, 3)


def made(count, seed=0, levels=None, dtype=np.float32, labels=(0, 0, 0, 1, 255)):
    """Images of scores, tied if there are few levels, and labels."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        scores = random.normal(size=(9, 13)) if levels is None else random.integers(0, levels, (9, 13))
        yield scores.astype(dtype), random.choice(np.array(labels, np.uint8), (9, 13))


class Group:
    """What the processes of a group give to each other, one after the other: ``share`` of each."""

    def __init__(self, count):
        self.waiting, self.barrier, self.lock, self.whole = [], threading.Barrier(count), threading.Lock(), None

    def share(self, metrics, finish):
        with self.lock:
            self.waiting.append(metrics)
        if self.barrier.wait() == 0:
            first, *others = self.waiting
            for other in others:
                first.merge(pickle.loads(pickle.dumps(other)))
            self.whole, self.waiting = finish(first), []
        self.barrier.wait()
        return self.whole


@pytest.mark.filterwarnings("ignore:.*no pixel is labeled:RuntimeWarning")
@pytest.mark.parametrize("rule", FPR_RULES)
@pytest.mark.parametrize(
    "images",
    [
        {"count": 5},
        {"count": 5, "levels": 4},
        {"count": 3, "dtype": np.float64},
        {"count": 3, "dtype": np.float16},
        {"count": 3, "labels": (0, 255)},
        {"count": 3, "labels": (1, 255)},
        {"count": 3, "labels": (255,)},
        {"count": 0},
    ],
    ids=str,
)
def test_two_passes_give_the_same_to_the_last_digit(images, rule):
    metrics = PixelMetrics(rule)
    for image in made(**images):
        metrics.update(*image)
    result, curve, alone = pixel_metrics(lambda: made(**images), rule)
    assert repr(result) == repr(metrics.compute())  # as text, where NaN equals NaN
    assert all(np.array_equal(*both) for both in zip(vars(curve).values(), vars(metrics.curve()).values(), strict=True))
    assert repr(alone) == repr([pixel(*image, rule) for image in made(**images)])

    group = Group(2)
    shards = [list(made(**images))[start::2] for start in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda shard: pixel_metrics(lambda: shard, rule, share=group.share), shards))
    assert repr([one[0] for one in found]) == repr([result, result])
    assert [len(one[2]) for one in found] == [len(shard) for shard in shards]


def test_types_may_differ_between_images():
    images = [*made(1), *made(1, seed=1, dtype=np.float64), *made(1, seed=2, dtype=np.float16)]
    metrics = PixelMetrics()
    for image in images:
        metrics.update(*image)
    assert pixel_metrics(lambda: images)[0] == metrics.compute()


def test_two_passes_refuse_what_one_refuses():
    scores, labels = next(made(1))
    scores[labels == 1] = np.nan
    for wrong, error in (((scores, labels), "no NaN"), ((scores[1:], labels), "expected shape")):
        with pytest.raises(ValueError, match=error):
            pixel_metrics(lambda wrong=wrong: [wrong])
    with pytest.raises(ValueError, match="fpr_rule: expected one of"):
        pixel_metrics(lambda: [], "best")


PEAK = """
import resource
import numpy as np
from rwpm_fast.metrics import pixel_metrics

def maps():
    random = np.random.default_rng(0)
    for _ in range(48):  # 384 MiB of scores
        scores = random.random((1024, 2048), dtype=np.float32)
        yield scores, (scores % 1e-3 < 1e-6).view(np.uint8)

next(iter(maps()))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result, _, alone = pixel_metrics(maps)
assert result.images == len(alone) == 48 and result.positives + result.negatives == 48 * 2**21
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_two_passes_hold_no_more_than_a_block(run_python):
    assert int(run_python(PEAK)) < 250


@pytest.mark.parametrize("metrics", [pixel_metrics, BinnedPixelMetrics])
def test_float16_maps_with_many_ties(metrics):
    # Which NumPy's sort of float16 leaves unsorted on some processors.
    rng = np.random.default_rng(1)
    labels = (rng.random((360, 640)) < 0.05).astype(np.uint8)
    scores = (rng.normal(-10, 2, labels.shape).round() + labels).astype(np.float16)

    def result(scores):
        if metrics is pixel_metrics:
            return metrics(lambda: [(scores, labels)])[2]
        accumulator = metrics()
        accumulator.update(scores, labels)
        return accumulator.compute()

    assert result(scores) == result(scores.astype(np.float32))
