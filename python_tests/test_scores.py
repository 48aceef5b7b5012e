import math

import numpy as np
import pytest
import torch
from scipy import ndimage, special

from rwpm_fast import scores

HALVES = [torch.float16, torch.bfloat16]


def random_logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def per_pixel(logits, function):
    """A function of one pixel's class vector, applied to [K, H, W] in a plain loop."""
    logits = np.asarray(logits, dtype=np.float64)
    _, height, width = logits.shape
    return np.array([[function(logits[:, y, x]) for x in range(width)] for y in range(height)])


def naive_entropy(pixel):
    p = special.softmax(pixel)
    return -sum(value * math.log(value) for value in p)


NAIVE = {
    "energy": lambda pixel: -math.log(sum(math.exp(value) for value in pixel)),
    "max_logit": lambda pixel: -max(pixel),
    "max_softmax": lambda pixel: 1 - special.softmax(pixel).max(),
    "entropy": naive_entropy,
    "rba": lambda pixel: -sum(math.tanh(value) for value in pixel),
    "mask2anomaly": lambda pixel: 1 - max(pixel),
}


def test_registry_is_complete():
    assert set(scores.SCORES) == {*NAIVE, "blurred_energy"}
    assert all(scores.get(name) is function for name, function in scores.SCORES.items())
    with pytest.raises(ValueError, match=r"name: expected one of energy, .*mask2anomaly, got 'msp'"):
        scores.get("msp")


@pytest.mark.parametrize("name", NAIVE)
def test_score_equals_naive_loop(name):
    logits = random_logits(7, 4, 5)
    np.testing.assert_allclose(scores.get(name)(logits), per_pixel(logits, NAIVE[name]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAIVE)
def test_batch_and_class_axis(name):
    logits = random_logits(2, 3, 7, 4, 5)
    score = scores.get(name)
    together = score(logits)
    assert together.shape == (2, 3, 4, 5)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], score(logits[i, j]), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(score(logits.movedim(2, -1), dim=-1), together, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_is_computed_in_float32(name, dtype):
    logits = random_logits(7, 4, 5).to(dtype)
    score = scores.get(name)(logits)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, scores.get(name)(logits.float()), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(name, dtype):
    assert scores.get(name)(random_logits(3, 2, 2).to(dtype)).dtype == dtype


@pytest.mark.parametrize("name", NAIVE)
def test_infinite_logits_are_limits(name):
    inf = torch.inf
    pixels = [[inf, 0, 0], [inf, inf, 0], [-inf, 0, 1], [-inf] * 3, [inf, -inf, 0], [1e38, -3e38, 0], [1e4, 0, -1e4]]
    logits = torch.tensor(pixels).T[:, None]
    got = scores.get(name)(logits)[0].tolist()
    log2, one = math.log(2), math.e / (1 + math.e)
    wanted = {
        "energy": [-inf, -inf, -math.log(1 + math.e), inf, -inf, -1e38, -1e4],
        "max_logit": [-inf, -inf, -1, inf, -inf, -1e38, -1e4],
        "max_softmax": [0, 0.5, 1 - one, 2 / 3, 0, 0, 0],
        "entropy": [0, log2, math.log(1 + math.e) - one, math.log(3), 0, 0, 0],
        "rba": [-1, -2, 1 - math.tanh(1), 3, 0, 0, 0],
        "mask2anomaly": [-inf, -inf, 0, inf, -inf, -1e38, 1 - 1e4],
    }[name]
    assert got == pytest.approx(wanted, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", NAIVE)
def test_nan_stays_at_its_pixel(name):
    logits = random_logits(4, 2, 3)
    logits[1, 0, 2] = torch.nan
    assert scores.get(name)(logits).isnan().nonzero().tolist() == [[0, 2]]


def test_half_sums_do_not_overflow():
    logits = torch.full((19, 2, 2), 6e4, dtype=torch.float16)
    assert scores.energy(logits).tolist() == [[pytest.approx(-float(logits[0, 0, 0]) - math.log(19), rel=1e-6)] * 2] * 2


def test_confident_pixels_keep_their_order():
    leads = torch.arange(10, 100, 5, dtype=torch.float32)
    logits = torch.stack([leads, torch.zeros_like(leads), torch.zeros_like(leads)])[:, None]
    for score in (scores.max_softmax(logits)[0], scores.entropy(logits)[0]):
        assert (score.diff() < 0).all()
    np.testing.assert_allclose(scores.max_softmax(logits)[0], 2 * (-leads.double()).exp(), rtol=1e-4)
    wanted = 2 * (-leads.double()).exp() * (1 + leads.double())
    np.testing.assert_allclose(scores.entropy(logits)[0], wanted, rtol=1e-4)


def test_normalized_entropy():
    assert scores.entropy(torch.zeros(19, 1, 1), normalized=True).item() == pytest.approx(1)
    logits = random_logits(5, 3, 3)
    torch.testing.assert_close(scores.entropy(logits, normalized=True), scores.entropy(logits) / math.log(5))
    assert scores.entropy(torch.ones(1, 2, 2), normalized=True).eq(0).all()


def test_energy_gradient_is_minus_softmax():
    logits = random_logits(5, 3, 4).requires_grad_()
    scores.energy(logits).sum().backward()
    torch.testing.assert_close(logits.grad, -logits.detach().softmax(0))


@pytest.mark.parametrize("name", NAIVE)
def test_gradients_are_right(name):
    assert torch.autograd.gradcheck(scores.get(name), random_logits(4, 2, 2).requires_grad_())


def test_gradients_of_ruled_out_classes_are_finite():
    for score in (scores.energy, scores.max_softmax, scores.entropy):
        logits = torch.tensor([0.0, 1.0, -torch.inf]).reshape(3, 1, 1).requires_grad_()
        score(logits).sum().backward()
        assert logits.grad.isfinite().all() and logits.grad[2] == 0 and logits.grad[0] != 0


def test_rba_squash():
    maps = random_logits(6, 3, 4)
    naive = per_pixel(maps, lambda pixel: -sum(1 / (1 + math.exp(-value)) for value in pixel))
    np.testing.assert_allclose(scores.rba(maps, squash="sigmoid"), naive, rtol=1e-12)
    with pytest.raises(ValueError, match="squash: expected 'tanh' or 'sigmoid', got 'relu'"):
        scores.rba(maps, squash="relu")


def test_mask2anomaly_squash():
    maps = random_logits(6, 3, 4)
    naive = per_pixel(maps, lambda pixel: 1 - 1 / (1 + math.exp(-max(pixel))))
    np.testing.assert_allclose(scores.mask2anomaly(maps, squash="sigmoid"), naive, rtol=1e-12)
    with pytest.raises(ValueError, match="squash: expected None or 'sigmoid', got 'tanh'"):
        scores.mask2anomaly(maps, squash="tanh")


@pytest.mark.parametrize("name", NAIVE)
def test_class_axis_errors(name):
    argument = "class_maps" if name in ("rba", "mask2anomaly") else "logits"
    with pytest.raises(ValueError, match=rf"{argument}: expected at least one class along dim -3, got shape \[4, 5\]"):
        scores.get(name)(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=rf"{argument}: .*got shape \[0, 4, 5\]"):
        scores.get(name)(torch.zeros(0, 4, 5))
    with pytest.raises(TypeError, match=rf"{argument}: expected a torch.Tensor, got ndarray"):
        scores.get(name)(np.zeros((3, 4, 5)))


def naive_class_maps(class_logits, mask_logits):
    queries, classes = class_logits.shape
    maps = np.zeros((classes - 1, *mask_logits.shape[1:]))
    for q in range(queries):
        p = special.softmax(np.asarray(class_logits[q], dtype=np.float64))
        for k in range(classes - 1):
            maps[k] += p[k] * special.expit(np.asarray(mask_logits[q], dtype=np.float64))
    return maps


def test_mask_class_logits_equals_naive_loop():
    class_logits, mask_logits = random_logits(6, 5), random_logits(6, 3, 4, seed=1)
    wanted = naive_class_maps(class_logits, mask_logits)
    np.testing.assert_allclose(scores.mask_class_logits(class_logits, mask_logits), wanted, rtol=1e-12)
    np.testing.assert_allclose(scores.mask_class_logits(class_logits.float(), mask_logits), wanted, rtol=1e-6)
    np.testing.assert_allclose(scores.mask_class_logits(class_logits, mask_logits.float()), wanted, rtol=1e-6)
    assert scores.mask_class_logits(class_logits, mask_logits.float()).dtype == torch.float64


def test_mask_class_logits_batch_and_half():
    class_logits, mask_logits = random_logits(2, 6, 5), random_logits(2, 6, 3, 4, seed=1)
    maps = scores.mask_class_logits(class_logits, mask_logits)
    for i in range(2):
        torch.testing.assert_close(maps[i], scores.mask_class_logits(class_logits[i], mask_logits[i]))
    half = scores.mask_class_logits(class_logits.half(), mask_logits.half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, maps.float(), rtol=0, atol=0.02)


def test_mask_class_logits_takes_extreme_logits():
    inf = torch.inf
    class_logits = torch.tensor([[1e4, -1e4, 0], [-inf, 0, -inf], [inf, 0, 0], [0, -inf, inf]])
    mask_logits = torch.tensor([1e4, -1e4, inf, 0]).reshape(4, 1, 1)
    assert scores.mask_class_logits(class_logits, mask_logits).flatten().tolist() == [2, 0]


def test_mask_shape_errors():
    for function in (scores.mask_class_logits, scores.confident_stuff_maps):
        with pytest.raises(ValueError, match=r"mask_logits: expected shape \[6, H, W\] .* got \[5, 3, 4\]"):
            function(torch.zeros(6, 20), torch.zeros(5, 3, 4))
        with pytest.raises(ValueError, match=r"mask_logits: expected shape \[2, 6, H, W\] .* got \[6, 3, 4\]"):
            function(torch.zeros(2, 6, 20), torch.zeros(6, 3, 4))
        with pytest.raises(ValueError, match=r"class_logits: expected shape \[\.\.\., Q, K \+ 1\] .* got \[6, 1\]"):
            function(torch.zeros(6, 1), torch.zeros(6, 3, 4))
        with pytest.raises(TypeError, match=r"mask_logits: expected a torch.Tensor, got list"):
            function(torch.zeros(6, 20), [])
    with pytest.raises(ValueError, match=r"stuff: expected class indices from 0 to 18, got \[3, 19\]"):
        scores.confident_stuff_maps(torch.zeros(6, 20), torch.zeros(6, 3, 4), stuff=(3, 19))


def sure_of(*classes):
    """Class logits of queries that are all but certain, or undecided for None."""
    logits = torch.zeros(len(classes), 20)
    for query, k in enumerate(classes):
        if k is not None:
            logits[query, k] = 12.0
    return logits


def test_confident_stuff_maps_choose_stuff_only():
    class_logits = sure_of(0, 1, 2, 10, 11, 19, None, 5)
    mask_logits = random_logits(8, 3, 4).float()
    maps = scores.confident_stuff_maps(class_logits, mask_logits)
    chosen = [2, 3, 7]
    probability = class_logits.softmax(-1).amax(-1)[chosen]
    torch.testing.assert_close(maps, probability[:, None, None] * mask_logits[chosen].sigmoid())
    assert len(scores.confident_stuff_maps(class_logits, mask_logits, stuff=(0, 11))) == 2
    assert len(scores.confident_stuff_maps(class_logits, mask_logits, threshold=0.9999)) == 0


def test_confident_stuff_threshold_is_strict():
    logits = torch.tensor([[0.0, 0.0]])  # probability exactly 0.5
    masks = torch.zeros(1, 2, 2)
    assert len(scores.confident_stuff_maps(logits, masks, threshold=0.5, stuff=(0,))) == 0
    assert len(scores.confident_stuff_maps(logits, masks, threshold=0.49, stuff=(0,))) == 1


def test_stuff_maps_of_a_batch_refine_each_image_by_its_own_count():
    masks = random_logits(4, 3, 8, 12, seed=3).float()
    masks[:, :, :2] = 9.0
    masks[3] = -1e4  # sigmoid underflows to 0, but both queries count
    class_logits = torch.stack([sure_of(2, 7, 4), sure_of(0, 8, None), sure_of(0, 1, 19), sure_of(0, 9, 10)])
    class_maps = scores.mask_class_logits(class_logits, masks)
    stuff_maps = scores.confident_stuff_maps(class_logits, masks)
    assert stuff_maps.shape == (4, 3, 8, 12)
    assert stuff_maps[1, 1:].eq(-1).all() and stuff_maps[2].eq(-1).all() and stuff_maps[3, :2].eq(0).all()

    resized = torch.nn.functional.interpolate(stuff_maps[..., :7, :11], size=(10, 17), mode="bilinear")
    large = torch.nn.functional.interpolate(class_maps[..., :7, :11], size=(10, 17), mode="bilinear")
    together = scores.mask2anomaly(large, resized)
    for i, count in enumerate((3, 1, 0, 2)):
        own = scores.confident_stuff_maps(class_logits[i], masks[i])
        assert len(own) == count
        torch.testing.assert_close(together[i], scores.mask2anomaly(large[i], resized[i, :count]))
    assert together[0, :2].eq(0).all() and together[1, :2].ne(0).all()


def test_refinement():
    class_maps = torch.tensor([0.2, 0.3, 1.4, 0.1, 0.6]).reshape(1, 1, 5)
    one = torch.tensor([0.5, 0.49, 0.6, 0.3, 0.55]).reshape(1, 1, 5)
    two = torch.cat([one, torch.zeros(1, 1, 5)])
    plain = [0.5, 0.51, -0.4, 0.7, 0.4]  # stuff maps take part in the maximum
    assert scores.mask2anomaly(class_maps, one)[0].tolist() == pytest.approx(plain)
    assert scores.mask2anomaly(class_maps, two, refine=False)[0].tolist() == pytest.approx(plain)
    assert scores.mask2anomaly(class_maps, two)[0].tolist() == pytest.approx([0, 0.51, 0, 0.7, 0])
    last = scores.mask2anomaly(class_maps.movedim(0, -1), two.movedim(0, -1), dim=-1)
    torch.testing.assert_close(last, scores.mask2anomaly(class_maps, two))
    torch.testing.assert_close(scores.mask2anomaly(class_maps, two[:0]), scores.mask2anomaly(class_maps))
    torch.testing.assert_close(
        scores.mask2anomaly(class_maps, one, squash="sigmoid"),
        scores.mask2anomaly(torch.maximum(class_maps, one), squash="sigmoid"),
    )


def test_stuff_map_errors():
    with pytest.raises(
        ValueError, match=r"stuff_maps: expected shape \[2, 3, 4\] to match class_maps, got \[2, 3, 5\]"
    ):
        scores.mask2anomaly(torch.zeros(19, 3, 4), torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"stuff_maps: expected shape \[1, 'J', 3, 4\] to match class_maps"):
        scores.mask2anomaly(torch.zeros(1, 19, 3, 4), torch.zeros(2, 3, 4))


@pytest.mark.parametrize(("kernel_size", "sigma"), [(7, 1.0), (5, 0.7), (3, 2.0), (1, 1.0)])
def test_blur_equals_scipy(kernel_size, sigma):
    score_map = random_logits(9, 11)
    wanted = ndimage.gaussian_filter(score_map.numpy(), sigma, mode="mirror", radius=kernel_size // 2)
    blurred = scores.gaussian_blur(score_map, kernel_size=kernel_size, sigma=sigma)
    np.testing.assert_allclose(blurred, wanted, rtol=1e-12, atol=1e-13)


def test_blur_batch_constant_and_smallest_map():
    maps = random_logits(2, 3, 4, 6)
    blurred = scores.gaussian_blur(maps)
    torch.testing.assert_close(blurred[1, 2], scores.gaussian_blur(maps[1, 2]))
    wanted = ndimage.gaussian_filter(maps[0, 1].numpy(), 1.0, mode="mirror", radius=3)
    np.testing.assert_allclose(blurred[0, 1], wanted, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(scores.gaussian_blur(torch.full((8, 8), -9.5)), torch.full((8, 8), -9.5))
    assert scores.gaussian_blur(torch.zeros(0, 8, 8)).shape == (0, 8, 8)


def test_blurred_energy():
    logits = random_logits(2, 7, 9, 12)
    profile = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    kernel = np.outer(profile, profile) / profile.sum() ** 2
    blurred = scores.get("blurred_energy")(logits)
    for image, score in zip(logits, blurred, strict=True):
        wanted = ndimage.correlate(per_pixel(image, NAIVE["energy"]), kernel, mode="mirror")
        np.testing.assert_allclose(score, wanted, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(scores.blurred_energy(logits.movedim(1, -1), dim=-1), blurred)
    assert scores.blurred_energy(logits.half()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"score_map: expected shape \[\.\.\., H, W\] with H and W at least 4"):
        scores.blurred_energy(logits[..., :3])


def test_blur_half_is_computed_in_float32():
    score_map = torch.full((8, 8), 6e4, dtype=torch.float16)
    blurred = scores.gaussian_blur(score_map)
    assert blurred.dtype == torch.float32
    torch.testing.assert_close(blurred, score_map.float())


def test_blur_errors():
    with pytest.raises(ValueError, match=r"score_map: .*at least 4 for kernel_size 7, got \[3, 9\]"):
        scores.gaussian_blur(torch.zeros(3, 9))
    with pytest.raises(ValueError, match=r"score_map: .*got \[9\]"):
        scores.gaussian_blur(torch.zeros(9))
    for kernel_size in (6, 0, -1):
        with pytest.raises(ValueError, match=f"kernel_size: expected a positive odd number, got {kernel_size}"):
            scores.gaussian_blur(torch.zeros(9, 9), kernel_size=kernel_size)
    for sigma in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="sigma: expected a positive finite number"):
            scores.gaussian_blur(torch.zeros(9, 9), sigma=sigma)
    with pytest.raises(TypeError, match=r"score_map: expected a torch.Tensor, got ndarray"):
        scores.gaussian_blur(np.zeros((9, 9)))
