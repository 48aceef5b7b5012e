"""The uncertainty maps against the golden files of the original and against loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special
from torch import nn

from python_tests.conformance import golden, load, scale_of
from python_tests.networks.weight_rule import weights_by_rule
from rwpm_fast.synboost import uncertainty
from rwpm_fast.synboost.uncertainty import (
    entropy,
    entropy_and_distance,
    perceptual_difference,
    quantize,
    softmax_distance,
)
from rwpm_fast.synboost.vgg import VGG16, VGG19

HALVES = [torch.float16, torch.bfloat16]
MAPS = {"entropy": entropy, "distance": softmax_distance}
MINMAX = ["range", "legacy", None]


def random(*shape, seed=0, scale=1.0, dtype=torch.float32):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def network() -> VGG19:
    """The network with weights by the rule of the golden files, which names layers by slices."""
    network = VGG19()
    names = network.slice_names()
    drawn = weights_by_rule({names[entry]: tensor for entry, tensor in network.state_dict().items()})
    network.load_state_dict({entry: drawn[name] for entry, name in names.items()})
    return network.eval().requires_grad_(False)


def check(got: torch.Tensor, wanted: np.ndarray, bound: float, what: str) -> None:
    """Compare two maps; the error is printed as a share of its bound."""
    error = np.abs(got.double().numpy() - wanted).max()
    print(f"{what}: error {error:.2e}, bound {bound:.2e}")
    assert got.shape == wanted.shape, what
    assert error <= bound, what


def map_bound(path, quantity, wanted, factor=1.0) -> float:
    """Tolerance of a map: of its size, and of its variation over the image."""
    scale = scale_of(path, quantity, factor * wanted)
    return min(1e-4 * scale["max_abs"], 1e-3 * scale["spatial_std"]) / factor


@golden("synboost_uncertainty")
@torch.inference_mode()
def test_maps_reproduce_the_original(path):
    arrays = load(path)
    logits = torch.from_numpy(arrays["logits"])
    for name, function in MAPS.items():
        got, wanted = function(logits, minmax="legacy")[0], arrays[f"{name}_legacy"]
        check(got, wanted, map_bound(path, f"{name}_times_255", wanted, 255), f"{path.stem} {name}")
        assert got.dtype == torch.float32

        levels = (quantize(got) * 255).numpy() - arrays[f"{name}_legacy_uint8_trunc"]
        print(f"{path.stem} {name}: {np.count_nonzero(levels)} of {levels.size} pixels in another 8-bit level")
        assert np.abs(levels).max() <= 1
        assert np.count_nonzero(levels) <= 0.001 * levels.size

    nats = arrays["entropy_raw_nats_f64"]
    check(entropy(logits, minmax=None)[0], nats, 1e-4 * nats.max(), f"{path.stem} nats")
    check(entropy(logits.double(), minmax=None)[0], nats, 1e-9 * nats.max(), f"{path.stem} nats in float64")


@golden("synboost_perceptual")
@torch.inference_mode()
def test_perceptual_difference_reproduces_the_original(path, network):
    arrays = load(path)
    x, y = (torch.from_numpy(arrays[name]) for name in "xy")
    for number, (a, b) in enumerate(zip(network(x), network(y), strict=True), 1):
        name = f"tap{number}_mean_abs"
        bound = 1e-4 * scale_of(path, name, arrays[name])["max_abs"]
        check((a - b).abs().mean(1)[0], arrays[name], bound, f"{path.stem} {name}")

    wanted = arrays["difference"]
    got = perceptual_difference(x, y, network, minmax=None)
    check(got[0, 0], wanted, map_bound(path, "map", wanted), f"{path.stem} difference")
    for minmax in ("range", "legacy"):
        got, wanted = perceptual_difference(x, y, network, minmax=minmax), arrays["difference_minmax"]
        check(got[0, 0], wanted, map_bound(path, "norm", wanted), f"{path.stem} {minmax}")


@golden("synboost_perceptual")
@torch.inference_mode()
def test_perceptual_difference_in_float64(path, network):
    arrays = load(path)
    x, y = (torch.from_numpy(arrays[name]) for name in "xy")
    double = VGG19().double()
    double.load_state_dict(network.state_dict())
    got, wanted = perceptual_difference(x, y, double, minmax=None), arrays["difference_f64"]
    assert got.dtype == torch.float64
    check(got[0, 0], wanted, 1e-9 * wanted.max(), f"{path.stem} difference in float64")


def looped(name: str, logits: torch.Tensor, minmax: str | None) -> np.ndarray:
    """The definition, pixel by pixel and image by image."""
    maps = []
    for image in logits.double().numpy():
        p = special.softmax(image, axis=0)
        if name == "entropy":
            e = np.array(
                [[-sum(v * math.log(v) for v in p[:, i, j]) for j in range(p.shape[2])] for i in range(p.shape[1])]
            )
            scaled = {"range": (e - e.min()) / (e.max() - e.min()), "legacy": (e - e.min()) / e.max(), None: e}
        else:
            ordered = np.sort(p, axis=0)
            r = ordered[-1] - ordered[-2]
            scaled = {
                "range": 1 - (r - r.min()) / (r.max() - r.min()),
                "legacy": 1 - (r - r.min()) / r.max(),
                None: 1 - r,
            }
        maps.append(scaled[minmax])
    return np.stack(maps)[:, None]


@pytest.mark.parametrize("minmax", MINMAX)
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_the_definition(name, minmax):
    logits = random(3, 7, 5, 6, scale=2, dtype=torch.float64)
    np.testing.assert_allclose(MAPS[name](logits, minmax=minmax), looped(name, logits, minmax), rtol=0, atol=1e-12)
    got = MAPS[name](logits.float(), minmax=minmax)
    assert got.dtype == torch.float32 and got.shape == (3, 1, 5, 6)
    np.testing.assert_allclose(got, looped(name, logits, minmax), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_range_fills_the_unit_interval_in_every_image(name):
    logits = random(4, 19, 9, 11, scale=4) * torch.tensor([0.01, 0.5, 1, 5]).view(4, 1, 1, 1)
    scaled = MAPS[name](logits).flatten(1)
    assert torch.equal(scaled.amin(1), torch.zeros(4)) and torch.equal(scaled.amax(1), torch.ones(4))


@pytest.mark.parametrize("minmax", MINMAX)
def test_both_maps_at_once(monkeypatch, minmax):
    logits = random(2, 19, 7, 30, scale=4)
    whole = [function(logits, minmax=minmax) for function in MAPS.values()]
    monkeypatch.setattr(uncertainty, "CHUNK", 3 * 19 * 30)  # three rows at a time
    for got, alone, wanted in zip(
        entropy_and_distance(logits, minmax=minmax),
        (function(logits, minmax=minmax) for function in MAPS.values()),
        whole,
        strict=True,
    ):
        assert torch.equal(got, alone)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.1, 4.0, 20.0])
def test_rounding_errors_of_a_constant_map_are_not_stretched(scale):
    """Up-sampling one value gives it back with other last digits."""
    grid = random(1, 19, 1, 1, scale=scale).expand(1, 19, 9, 17).contiguous()
    logits = F.interpolate(grid, (75, 113), mode="bilinear")
    nats = entropy(logits, minmax=None)
    assert not entropy(logits).any() and (softmax_distance(logits) == 1).all()
    logits[..., 0, 0] *= 1.01  # which is no rounding
    assert entropy(logits).max() == softmax_distance(logits).max() == 1 > softmax_distance(logits).min() == 0
    assert nats.max() - nats.min() < 1e-5


def test_uniform_logits():
    logits = torch.full((2, 19, 3, 4), 0.25)
    full = torch.ones(2, 1, 3, 4)
    torch.testing.assert_close(entropy(logits, minmax=None), math.log(19) * full, rtol=1e-6, atol=0)
    assert torch.equal(softmax_distance(logits, minmax=None), full)
    for minmax in ("range", "legacy"):
        assert torch.equal(entropy(logits, minmax=minmax), 0 * full)
        assert torch.equal(softmax_distance(logits, minmax=minmax), full)


@pytest.mark.parametrize("minmax", MINMAX)
@pytest.mark.parametrize("gap", [0.0, 3.0, 200.0, 3e38, math.inf])
@pytest.mark.parametrize("name", MAPS)
def test_constant_maps_and_wide_gaps_are_finite(name, gap, minmax):
    constant = torch.zeros(1, 19, 3, 4)
    constant[:, 7] = gap
    mixed = constant.clone()
    mixed[..., 0] = 0
    negative = -constant
    for logits in (constant, mixed, negative):
        scaled = MAPS[name](logits, minmax=minmax)
        assert scaled.isfinite().all()
        assert scaled.min() >= 0 and scaled.max() <= (math.log(19) + 1e-5 if (name, minmax) == ("entropy", None) else 1)


def test_wide_gap_beside_an_undecided_pixel():
    logits = torch.zeros(1, 19, 1, 2)
    logits[0, 3, 0, 0] = 200
    for function in MAPS.values():
        for minmax in ("range", "legacy"):
            assert function(logits, minmax=minmax).flatten().tolist() == [0, 1]


def test_two_infinite_logits_share_the_probability():
    logits = torch.zeros(1, 19, 1, 1)
    logits[0, :2] = math.inf
    assert softmax_distance(logits, minmax=None).item() == pytest.approx(1)
    assert entropy(logits, minmax=None).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("minmax", MINMAX)
@pytest.mark.parametrize("name", MAPS)
def test_a_batch_is_its_images(name, minmax):
    logits = random(2, 19, 13, 17, scale=4)
    logits[1] *= 0.1
    apart = torch.cat([MAPS[name](image[None], minmax=minmax) for image in logits])
    assert torch.equal(MAPS[name](logits, minmax=minmax), apart)
    last = logits.to(memory_format=torch.channels_last)
    torch.testing.assert_close(MAPS[name](last, minmax=minmax), apart, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_computed_in_float32(name, dtype):
    logits = random(2, 19, 6, 7, scale=4)
    half = MAPS[name](logits.to(dtype))
    assert half.dtype == torch.float32 and torch.equal(half, MAPS[name](logits.to(dtype).float()))
    with torch.autocast("cpu", dtype):
        cast = MAPS[name](logits)
    assert cast.dtype == torch.float32 and torch.equal(cast, MAPS[name](logits))


def test_an_empty_batch():
    assert entropy(torch.zeros(0, 19, 2, 3)).shape == softmax_distance(torch.zeros(0, 19, 2, 3)).shape == (0, 1, 2, 3)


@pytest.mark.parametrize("minmax", MINMAX)
@torch.inference_mode()
def test_identical_images_do_not_differ(network, minmax):
    x = random(2, 3, 32, 48)
    assert torch.equal(perceptual_difference(x, x.clone(), network, minmax=minmax), torch.zeros(2, 1, 32, 48))


@pytest.mark.parametrize("minmax", MINMAX)
@torch.inference_mode()
def test_a_batch_of_pairs_is_its_pairs(network, minmax):
    x, y = random(2, 3, 32, 48), random(2, 3, 32, 48, seed=1)
    y[1] = x[1] + 0.1 * y[1]
    together = perceptual_difference(x, y, network, minmax=minmax)
    apart = torch.cat(
        [perceptual_difference(a[None], b[None], network, minmax=minmax) for a, b in zip(x, y, strict=True)]
    )
    assert together.shape == (2, 1, 32, 48)
    bound = 1e-5 * apart.max()
    torch.testing.assert_close(together, apart, rtol=0, atol=bound)
    last = perceptual_difference(*(t.to(memory_format=torch.channels_last) for t in (x, y)), network, minmax=minmax)
    torch.testing.assert_close(last, apart, rtol=0, atol=bound)


@pytest.mark.parametrize("size", [(33, 47), (15, 70), (1, 1)])
@torch.inference_mode()
def test_perceptual_difference_of_odd_sizes(network, size):
    scaled = perceptual_difference(random(1, 3, *size), random(1, 3, *size, seed=1), network)
    assert scaled.shape == (1, 1, *size)
    assert scaled.isfinite().all() and scaled.min() >= 0 and scaled.max() <= 1


class Ramps(nn.Module):
    """In place of a VGG19: every channel of a cell is the column of the cell's center, times the image's value."""

    tap_strides, tap_weights = VGG19.tap_strides, VGG19.tap_weights

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        _, _, height, width = images.shape
        features = []
        for level, channels in enumerate((4, 3, 2, 5, 6)):
            stride = 2**level
            columns = (torch.arange(-(-width // stride)) + 0.5) * stride - 0.5
            features.append(images[:, :1, :1, :1] * columns.expand(1, channels, -(-height // stride), -1))
        return features


@pytest.mark.parametrize("size", [(64, 256), (37, 251)])
@torch.no_grad()
def test_taps_are_weighted_and_lie_on_their_pixels(size):
    height, width = size
    difference = perceptual_difference(torch.ones(1, 3, *size), torch.full((1, 3, *size), 3.0), Ramps(), minmax=None)
    wanted = (2 * (1 / 32 + 1 / 16 + 1 / 8 + 1 / 4 + 1) * torch.arange(width)).expand(1, 1, height, -1)
    # Bicubic interpolation bends a ramp between two cells, evenly to both sides of a cell's center. At the borders it
    # repeats the last cell.
    blocks, wanted = (F.avg_pool2d(columns, (1, 16))[..., 3:-3] for columns in (difference, wanted))
    torch.testing.assert_close(blocks, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", HALVES)
@torch.inference_mode()
def test_perceptual_difference_is_computed_in_float32(network, dtype):
    x, y = random(1, 3, 32, 48), random(1, 3, 32, 48, seed=1)
    wanted = perceptual_difference(x, y, network)
    with torch.autocast("cpu", dtype):
        cast = perceptual_difference(x, y, network)
    assert cast.dtype == torch.float32 and torch.equal(cast, wanted)
    rounded = perceptual_difference(x.to(dtype), y.to(dtype), network)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, perceptual_difference(x.to(dtype).float(), y.to(dtype).float(), network))


@torch.inference_mode()
def test_perceptual_difference_of_a_network_in_bfloat16(network):
    x, y = random(1, 3, 32, 48), random(1, 3, 32, 48, seed=1)
    half = VGG19()
    half.load_state_dict(network.state_dict())
    got = perceptual_difference(x, y, half.bfloat16())
    assert got.dtype == torch.float32
    error = (got - perceptual_difference(x, y, network)).abs().max()
    assert 0 < error < 0.02


def test_compiled(network):
    logits, x, y = random(1, 19, 4, 5), random(1, 3, 16, 16), random(1, 3, 16, 16, seed=1)
    calls = {
        entropy: (logits,),
        softmax_distance: (logits,),
        perceptual_difference: (x, y, network),
        quantize: (logits.sigmoid(),),
    }
    for function, arguments in calls.items():
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        assert torch.equal(compiled(*arguments), function(*arguments))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.equal(perceptual_difference(x, y, compiled), perceptual_difference(x, y, network))


def test_the_difference_has_a_gradient_and_the_frozen_network_none(network):
    x, y = random(1, 3, 16, 16), random(1, 3, 16, 16, seed=1).requires_grad_()
    perceptual_difference(x, y, network, minmax=None).sum().backward()
    assert y.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_quantization_truncates():
    levels = torch.arange(256) / 255
    assert torch.equal(quantize(levels), levels)
    assert torch.equal(quantize(levels[:-1] + 0.99 / 255), levels[:-1])
    assert quantize(levels.half()).dtype == torch.float32
    maps = random(2, 1, 5, 6).sigmoid()
    assert torch.equal(quantize(maps), torch.from_numpy((maps.numpy() * 255).astype(np.uint8)) / 255)
    assert torch.equal(quantize(quantize(maps)), quantize(maps))


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf])
def test_quantization_of_other_values(bad):
    with pytest.raises(ValueError, match=r"maps: expected values in \[0, 1\]"):
        quantize(torch.tensor([0.5, bad]))


@pytest.mark.parametrize("name", MAPS)
def test_errors_of_logits(name):
    function = MAPS[name]
    with pytest.raises(ValueError, match="minmax: expected 'range', 'legacy' or None, got 'max'"):
        function(torch.zeros(1, 19, 2, 3), minmax="max")
    with pytest.raises(TypeError, match=r"logits: expected a torch\.Tensor, got ndarray"):
        function(np.zeros((1, 19, 2, 3)))
    for shape in [(19, 2, 3), (1, 1, 2, 3), (1, 19, 0, 3)]:
        with pytest.raises(ValueError, match=r"logits: expected shape \[B, K, H, W\] with K >= 2 .*, got \["):
            function(torch.zeros(shape))
    logits = torch.zeros(3, 19, 2, 3)
    logits[1, 4, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"logits: expected a finite map, got NaN .* image 1 of the batch"):
        function(logits, minmax=None)


def test_errors_of_pairs(network):
    x = torch.zeros(2, 3, 16, 16)
    with pytest.raises(ValueError, match="minmax: expected 'range'"):
        perceptual_difference(x, x, network, minmax="min")
    with pytest.raises(TypeError, match=r"syntheses: expected a torch\.Tensor, got list"):
        perceptual_difference(x, x.tolist(), network)
    with pytest.raises(TypeError, match=r"images: expected floating point, normalized .*, got torch\.uint8"):
        perceptual_difference(x.byte(), x, network)
    for shape in [(3, 16, 16), (2, 4, 16, 16), (2, 3, 0, 16)]:
        with pytest.raises(ValueError, match=r"images: expected shape \[B, 3, H, W\] .*, got \["):
            perceptual_difference(torch.zeros(shape), x, network)
    with pytest.raises(
        ValueError, match=r"syntheses: expected the shape of images, \[2, 3, 16, 16\], got \[2, 3, 8, 16\]"
    ):
        perceptual_difference(x, x[:, :, :8], network)
    with pytest.raises(TypeError, match=r"network: expected a network with tap_strides and tap_weights, .*, got VGG16"):
        perceptual_difference(x, x, VGG16())
    with pytest.raises(
        ValueError, match=r"images and syntheses: expected a finite map, got NaN .* image 1 of the batch"
    ):
        perceptual_difference(x, torch.stack([x[0], x[1] + math.nan]), network)
