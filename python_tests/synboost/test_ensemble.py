"""Weighted averages, the grid search against brute force, and learned weights against torch's cross entropy."""

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score

from rwpm_fast.synboost import ensemble
from rwpm_fast.synboost.ensemble import (
    MAPS,
    PUBLISHED_WEIGHTS,
    LearnedEnsemble,
    ensemble_loss,
    grid,
    grid_search,
    raw_grid,
    stack_maps,
    weighted_average,
)

CLASS_WEIGHTS = (1.46494611, 16.5204619)


def random_maps(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_logits(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def labeled_photos(count=3, size=(9, 14), levels=5, seed=0):
    """Maps of few levels, so that scores tie, and labels that the first two maps know something of."""
    rng = np.random.default_rng(seed)
    photos = []
    for _ in range(count):
        labels = rng.choice(np.array([0, 1, 255], np.uint8), p=[0.7, 0.2, 0.1], size=size)
        maps = rng.integers(0, levels, (4, *size)) / levels
        maps[:2] = (maps[:2] + (labels == 1) * np.array([0.5, 0.3])[:, None, None]) / 1.5
        photos.append((maps.astype(np.float32), labels))
    return photos


# The average


@pytest.mark.parametrize("weights", [PUBLISHED_WEIGHTS, (3, 1, 0, 0), (1, 2, 3, 0), (0, 0, 0, 0.2)], ids=str)
@pytest.mark.parametrize("shape", [(4, 5, 7), (2, 4, 5, 7)], ids=str)
def test_average_is_its_formula(weights, shape):
    maps = random_maps(*shape)
    weight = torch.tensor(weights, dtype=torch.float64)[:, None, None]
    expected = (maps.double() * weight).sum(-3) / sum(weights)
    score = weighted_average(maps, weights)
    assert score.dtype == torch.float32 and score.shape == expected.shape
    assert (score - expected).abs().max() < 2e-7


def test_published_weights_are_the_default():
    maps = random_maps(4, 6, 5)
    assert PUBLISHED_WEIGHTS == (0.75, 0.25, 0, 0)
    assert torch.equal(weighted_average(maps), weighted_average(maps, (3, 1, 0, 0)))


def test_map_of_weight_zero_plays_no_part():
    maps = random_maps(4, 6, 5)
    expected = weighted_average(maps)
    maps[2], maps[3] = torch.nan, torch.inf
    assert torch.equal(weighted_average(maps), expected)


def test_batch_equals_singles_in_any_layout():
    maps = random_maps(3, 4, 9, 11)
    singles = torch.stack([weighted_average(photo, (1, 2, 3, 1)) for photo in maps])
    assert torch.equal(weighted_average(maps, (1, 2, 3, 1)), singles)
    assert torch.equal(weighted_average(maps.to(memory_format=torch.channels_last), (1, 2, 3, 1)), singles)
    assert torch.equal(weighted_average(maps.permute(1, 0, 2, 3), (1, 2, 3, 1), dim=0), singles)
    assert torch.equal(LearnedEnsemble()(maps), torch.stack([LearnedEnsemble()(photo) for photo in maps]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_combined_in_float32(dtype):
    maps = random_maps(4, 6, 5).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    for combine in (weighted_average, LearnedEnsemble()):
        assert torch.equal(combine(maps), combine(maps.to(wide)))
        assert combine(maps).dtype == wide


def test_stacked_maps():
    logits, others = random_logits(2, 2, 5, 7), random_maps(3, 2, 1, 5, 7)
    maps = stack_maps(logits, *others)
    assert maps.shape == (2, 4, 5, 7) and MAPS == ("anomaly", "entropy", "perceptual", "distance")
    assert torch.allclose(maps[:, 0], (logits[:, 1] - logits[:, 0]).sigmoid(), atol=1e-6)
    assert torch.equal(maps[:, 1:], others[:, :, 0].transpose(0, 1))
    assert stack_maps(logits.half(), *others).dtype == torch.float32


# The grid


def test_grid_has_224_distinct_vectors():
    raw, distinct = raw_grid(), grid()
    assert len(raw) == len(set(raw)) == 252
    assert all(set(vector) <= {0, 1, 2, 3} and len(set(vector)) > 1 for vector in raw)
    exact = [tuple(Fraction(value, sum(vector)) for value in vector) for vector in raw]
    assert len(distinct) == len(set(exact)) == 224
    assert distinct == [tuple(map(float, vector)) for vector in dict.fromkeys(exact)]
    assert all(math.isclose(sum(vector), 1, rel_tol=1e-15) for vector in distinct)
    assert PUBLISHED_WEIGHTS in distinct and (0.25,) * 4 not in distinct


def brute_force(photos, weights):
    """FPR95, AP and AuROC of all valid pixels by their definitions, threshold by threshold."""
    maps = np.concatenate([maps.reshape(4, -1) for maps, _ in photos], 1)
    labels = np.concatenate([labels.ravel() for _, labels in photos])
    valid = labels != 255
    scores = weighted_average(torch.from_numpy(maps), weights, dim=0).numpy()[valid].astype(np.float64)
    labels = labels[valid]
    for threshold in np.unique(scores)[::-1]:
        if (scores >= threshold)[labels == 1].mean() >= 0.95:
            fpr95 = (scores >= threshold)[labels == 0].mean()
            break
    return fpr95, average_precision_score(labels, scores), roc_auc_score(labels, scores)


@pytest.mark.parametrize("objective", ["fpr95", "ap", "auroc"])
def test_grid_search_equals_brute_force(objective):
    photos = labeled_photos()
    expected = {weights: brute_force(photos, weights) for weights in grid()}
    found = grid_search(iter(photos), objective=objective)
    assert {candidate.weights for candidate in found} == set(expected)
    for weights, result in found:
        assert (result.fpr95, result.ap, result.auroc) == pytest.approx(expected[weights], abs=1e-12)
        assert result.images == len(photos)
    values = [getattr(result, objective) for _, result in found]
    assert values == sorted(values, reverse=objective != "fpr95")
    assert values[0] == pytest.approx(
        min(fpr95 for fpr95, *_ in expected.values())
        if objective == "fpr95"
        else max(value[("fpr95", "ap", "auroc").index(objective)] for value in expected.values())
    )


def test_ties_fall_to_the_other_metrics_and_then_to_the_grid():
    found = grid_search(labeled_photos(levels=2))
    keys = [(result.fpr95, -result.ap, -result.auroc) for _, result in found]
    assert len({fpr95 for fpr95, *_ in keys}) < len(set(keys)) < len(keys)  # both kinds of ties are there
    order = {weights: index for index, weights in enumerate(grid())}
    ranks = [(*key, order[weights]) for key, (weights, _) in zip(keys, found, strict=True)]
    assert ranks == sorted(ranks)


def test_all_candidates_of_equal_maps_are_in_the_order_of_the_grid():
    scores = np.arange(12, dtype=np.float32).reshape(3, 4) / 16
    found = grid_search([(np.stack([scores > 0.4] * 4).astype(np.float32), (scores > 0.5).astype(int))])
    assert [weights for weights, _ in found] == grid()


def test_order_of_photos_does_not_matter():
    photos = labeled_photos()
    one, other = grid_search(photos), grid_search(photos[::-1])
    assert one == other


def test_check_value_of_the_metrics():
    labels = np.array([[0, 0, 1, 1, 0, 1, 255, 0]])
    scores = np.array([[0.1, 0.4, 0.35, 0.8, 0.7, 0.9, 0.99, 0.4]], np.float32)
    maps = np.stack([scores, *[np.zeros_like(scores)] * 3])
    result = dict(grid_search([(maps, labels)]))[1, 0, 0, 0]
    assert (result.auroc, result.fpr95) == (0.75, 0.75) and result.ap == pytest.approx(5 / 6)
    assert (result.positives, result.negatives) == (3, 4)


def test_fpr_rule_is_passed_on():
    photos = labeled_photos(levels=40)
    by_rule = [grid_search(photos, fpr_rule=rule)[0].result for rule in ("fishyscapes", "mask2anomaly")]
    assert [result.fpr_rule for result in by_rule] == ["fishyscapes", "mask2anomaly"]
    assert by_rule[0].fpr95 != by_rule[1].fpr95


def test_void_pixels_and_the_kind_of_array_change_nothing():
    photos = labeled_photos()
    expected = grid_search(photos)
    for maps, labels in photos:
        maps[:, labels == 255] = np.nan
    assert grid_search(photos) == expected
    assert grid_search((torch.from_numpy(maps), torch.from_numpy(labels)) for maps, labels in photos) == expected


# Learned weights


@pytest.mark.parametrize("weights", [(0.25, 0.25, 0.25, 0.25), (1, 2, 3, 3), (3, 1, 1, 2)], ids=str)
def test_learned_ensemble_starts_from_its_weights(weights):
    maps = random_maps(2, 4, 6, 5)
    learned = LearnedEnsemble(weights)
    assert learned.weights.tolist() == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-6)
    assert torch.allclose(learned(maps), weighted_average(maps, weights), atol=1e-6)


def test_zero_weights_start_small_and_are_learned():
    learned = LearnedEnsemble()
    assert learned.weights.tolist() == pytest.approx([0.75 / 1.02, 0.25 / 1.02, 0.01 / 1.02, 0.01 / 1.02], abs=1e-6)
    learned(random_maps(4, 6, 5)).sum().backward()
    assert (learned.raw.grad != 0).all()


def test_weights_stay_positive_and_sum_to_one():
    learned = LearnedEnsemble()
    with torch.no_grad():
        learned.raw.copy_(torch.tensor([-30.0, 40.0, 0.0, -5.0]))
    assert (learned.weights > 0).all() and learned.weights.sum().item() == pytest.approx(1)
    assert (learned(torch.ones(4, 2, 3)) - 1).abs().max() < 1e-6


def test_state_survives_saving(tmp_path):
    learned, maps = LearnedEnsemble((1, 2, 3, 0)), random_maps(4, 3, 3)
    torch.save(learned.state_dict(), tmp_path / "ensemble.pth")
    restored = LearnedEnsemble()
    restored.load_state_dict(torch.load(tmp_path / "ensemble.pth", weights_only=True))
    assert torch.equal(restored(maps), learned(maps))


def test_gradients_of_weights_maps_and_loss():
    learned = LearnedEnsemble((1, 2, 3, 1)).double()
    logits = random_logits(2, 2, 3, 4, dtype=torch.float64).requires_grad_()
    others = random_maps(3, 2, 1, 3, 4, dtype=torch.float64)
    labels = torch.tensor([0, 1, 255]).repeat(8).reshape(2, 3, 4)

    def loss(raw, logits):
        score = torch.func.functional_call(learned, {"raw": raw}, stack_maps(logits, *others))
        return ensemble_loss(score, labels, CLASS_WEIGHTS)

    assert torch.autograd.gradcheck(loss, (learned.raw, logits))


def test_loss_of_a_softmax_is_cross_entropy():
    logits = random_logits(2, 2, 9, 7, dtype=torch.float64)
    labels = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 255], (2, 9, 7)))
    for weights in ((1.0, 1.0), CLASS_WEIGHTS, torch.tensor(CLASS_WEIGHTS)):
        by_class = torch.as_tensor(weights, dtype=torch.float64)
        expected = F.cross_entropy(logits, labels, by_class, ignore_index=255)
        assert ensemble_loss(logits.softmax(1)[:, 1], labels, weights).item() == pytest.approx(
            expected.item(), abs=1e-7
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_certain_scores_have_a_finite_loss(dtype):
    score = torch.tensor([[0.0, 1.0]], dtype=dtype)
    assert ensemble_loss(score, torch.tensor([[0, 1]])).item() == pytest.approx(1e-6, rel=0.05)
    assert ensemble_loss(score, torch.tensor([[1, 0]])).item() == pytest.approx(-math.log(1e-6), rel=0.01)


def test_void_pixels_get_no_gradient():
    labels = torch.tensor([[[0, 1, 255, 255], [255, 0, 1, 255]]])
    void = labels == 255
    logits = random_logits(1, 2, 2, 4).requires_grad_()
    others = random_maps(1, 3, 2, 4).requires_grad_()
    learned = LearnedEnsemble()
    maps = stack_maps(logits, *others.split(1, 1))
    ensemble_loss(learned(maps), labels, CLASS_WEIGHTS).backward()
    for grad in (logits.grad, others.grad):
        assert (grad.movedim(1, -1)[void] == 0).all() and (grad.movedim(1, -1)[~void] != 0).all()

    expected = learned.raw.grad.clone()
    learned.raw.grad = None
    changed = torch.where(void[:, None], torch.tensor(torch.nan), maps.detach())
    score = learned(changed).detach().requires_grad_()
    loss = ensemble_loss(score, labels, CLASS_WEIGHTS)
    loss.backward()
    assert loss.item() == pytest.approx(ensemble_loss(learned(maps), labels, CLASS_WEIGHTS).item())
    assert (score.grad[void] == 0).all() and score.grad.isfinite().all()
    ensemble_loss(learned(maps.detach().masked_fill(void[:, None], 0.9)), labels, CLASS_WEIGHTS).backward()
    assert torch.allclose(learned.raw.grad, expected, atol=1e-7)


def test_void_pixels_alone_have_no_loss():
    learned = LearnedEnsemble()
    loss = ensemble_loss(learned(random_maps(1, 4, 2, 3)), torch.full((1, 2, 3), 255), CLASS_WEIGHTS)
    loss.backward()
    assert loss.item() == 0 and (learned.raw.grad == 0).all()


def test_learning_finds_the_map_that_knows():
    labels = torch.from_numpy(np.random.default_rng(0).choice([0, 1], (1, 16, 16)))
    maps = random_maps(1, 4, 16, 16)
    maps[:, 2] = labels * 0.9 + 0.05
    learned = LearnedEnsemble()
    optimizer = torch.optim.Adam(learned.parameters(), 0.05)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = ensemble_loss(learned(maps), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert learned.weights.argmax() == 2 and learned.weights[2] > 0.9


# Errors


ONES, LABELS = np.ones((4, 2, 3), np.float32), np.array([[0, 1, 0], [1, 255, 0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: weighted_average(torch.ones(3, 2, 2)), ValueError, r"maps: expected 4 maps .* got shape \[3, 2, 2\]"),
        (lambda: weighted_average(torch.ones(4, 2)), ValueError, "along dim -3, got shape"),
        (lambda: weighted_average(torch.ones(4, 2, 2).int()), TypeError, "maps: expected a floating-point"),
        (lambda: LearnedEnsemble()(torch.ones(2, 3, 4)), ValueError, "maps: expected 4 maps"),
        (lambda: weighted_average(torch.ones(4, 1, 1), (1, 2)), ValueError, "weights: expected 4 of them .* got 2"),
        (lambda: LearnedEnsemble((0, 0, 0, 0)), ValueError, "weights: expected finite numbers of 0 or more, not all 0"),
        (lambda: LearnedEnsemble((1, -1, 0, 1)), ValueError, "weights: expected finite numbers of 0 or more"),
        (lambda: LearnedEnsemble((1, math.nan, 0, 0)), ValueError, "weights: expected finite numbers of 0 or more"),
        (lambda: LearnedEnsemble((1, "1", 0, 0)), TypeError, r"weights\[1\]: expected a number, got str"),
        (
            lambda: grid_search([], objective="iou"),
            ValueError,
            "objective: expected one of fpr95, ap, auroc",
        ),
        (lambda: grid_search([], fpr_rule="none"), ValueError, "fpr_rule: expected one of"),
        (lambda: grid_search([]), ValueError, "photos: expected anomalies, labeled 1, got none in 0 photos"),
        (lambda: grid_search([(ONES, LABELS * 0 + 1)]), ValueError, "photos: expected inliers, labeled 0, got none"),
        (lambda: grid_search([(ONES, LABELS - 1)]), ValueError, "labels: got -1, which is neither positive"),
        (lambda: grid_search([(ONES, LABELS[None])]), ValueError, r"photos: expected maps \[4, H, W\] and labels"),
        (lambda: grid_search([(ONES[:3], LABELS)]), ValueError, r"got \[3, 2, 3\] and \[2, 3\] of photo 0"),
        (lambda: grid_search([(ONES, LABELS.astype(float))]), TypeError, "labels: expected integers or bool"),
        (lambda: grid_search([(ONES.astype(int), LABELS)]), TypeError, "maps: expected float16, float32 or float64"),
        (lambda: grid_search([(ONES, LABELS), (ONES * 255, LABELS)]), ValueError, r"maps in \[0, 1\].* of photo 1"),
        (lambda: grid_search([(ONES * np.nan, LABELS)]), ValueError, "got others in anomaly, entropy, perceptual"),
        (lambda: stack_maps(torch.ones(2, 2, 2), *[torch.ones(1, 1, 2, 2)] * 3), ValueError, "logits: expected shape"),
        (lambda: stack_maps(*[torch.ones(1, 2, 2, 2)] * 4), ValueError, r"entropy: expected shape \[1, 1, 2, 2\]"),
        (lambda: ensemble_loss(torch.ones(2), torch.ones(2)), TypeError, "labels: expected a torch.Tensor of integers"),
        (lambda: ensemble_loss(torch.ones(2), torch.ones(3).int()), ValueError, r"labels: expected shape \[2\]"),
        (
            lambda: ensemble_loss(torch.ones(2), torch.tensor([1, 2])),
            ValueError,
            r"expected 0, 1 and 255, got",
        ),
        (lambda: ensemble_loss(torch.ones(1), torch.tensor([1]), (1, 0)), ValueError, "class_weights: expected two"),
        (lambda: ensemble_loss(torch.ones(1), torch.tensor([1]), (1, 2, 3)), ValueError, "class_weights: expected two"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_examples():
    results = doctest.testmod(ensemble)
    assert results.attempted and not results.failed
