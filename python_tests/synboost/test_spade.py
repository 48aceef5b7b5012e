"""SPADE against the golden files of the original, and what it promises beyond them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from python_tests.conformance import golden, load, scale_of
from python_tests.networks.weight_rule import weights_by_rule
from rwpm_fast.networks.checkpoint import load_state
from rwpm_fast.synboost.dissimilarity import semantic_one_hot
from rwpm_fast.synboost.dissimilarity_layout import RenamedState
from rwpm_fast.synboost.spade import SPADE


def with_weights_by_rule(layer: SPADE) -> SPADE:
    names = {name: name.replace("hidden.", "shared.0.") for name in layer.state_dict()}
    original = RenamedState(layer, names)
    load_state(original, weights_by_rule(original.state_dict(), "spade_unit."), name="spade", path="rule")
    return layer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planes(*shape: int, classes: int = 19) -> torch.Tensor:
    """A random segmentation [B, H, W] as one-hot planes [B, K, H, W]."""
    labels = torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(1))
    return F.one_hot(labels, classes).movedim(-1, 1).float()


@golden("synboost_dissimilarity", "x")
@torch.inference_mode()
def test_reproduces_the_original(path):
    arrays = {name: torch.from_numpy(array) for name, array in load(path).items()}
    layer = with_weights_by_rule(SPADE(arrays["x"].shape[1]))
    got = layer(arrays["x"], semantic_one_hot(arrays["label"][None]))
    scale = scale_of(path, "out", arrays["out"])
    error, bound = (got - arrays["out"]).abs().max().item(), 1e-4 * scale["max_abs"]
    print(f"{path.stem}: error {error:.2e}, bound {bound:.2e}")
    assert error <= bound


@pytest.mark.parametrize(("channels", "parameters"), [(256, 612_352), (128, 317_184), (64, 169_600)])
def test_parameter_counts(channels, parameters):
    assert sum(parameter.numel() for parameter in SPADE(channels).parameters()) == parameters


@torch.inference_mode()
def test_is_the_equation_of_the_paper():
    layer, x, semantic = SPADE(6, classes=4, hidden=5).double(), normal(2, 6, 7, 9).double() * 3 + 2, planes(2, 7, 9)
    semantic = semantic[:, :4].double()
    hidden = F.conv2d(semantic, layer.hidden.weight, layer.hidden.bias, padding=1).clamp(min=0)
    gamma, beta = (F.conv2d(hidden, conv.weight, conv.bias, padding=1) for conv in (layer.gamma, layer.beta))
    mean, variance = x.mean((-2, -1), keepdim=True), x.var((-2, -1), correction=0, keepdim=True)
    wanted = (x - mean) / (variance + 1e-5).sqrt() * (1 + gamma) + beta
    torch.testing.assert_close(layer(x, semantic), wanted, rtol=0, atol=1e-12)


@torch.inference_mode()
def test_training_and_evaluation_compute_the_same():
    layer, x, semantic = SPADE(8), normal(2, 8, 6, 6), planes(2, 12, 12)
    assert torch.equal(layer.train()(x, semantic), layer.eval()(x, semantic))
    assert not list(layer.buffers())


@torch.inference_mode()
def test_segmentation_is_resized_by_the_nearest_pixel():
    layer, x, semantic = SPADE(8), normal(1, 8, 5, 7), planes(1, 11, 16)
    rows, columns = (torch.from_numpy(np.arange(n) * size // n) for n, size in ((5, 11), (7, 16)))
    torch.testing.assert_close(layer(x, semantic), layer(x, semantic[:, :, rows][..., columns]), rtol=0, atol=1e-6)


@torch.inference_mode()
def test_only_one_side_differs():
    layer, x, semantic = SPADE(8), normal(1, 8, 6, 7), planes(1, 6, 14)
    torch.testing.assert_close(layer(x, semantic), layer(x, semantic[..., ::2]), rtol=0, atol=1e-6)


@torch.inference_mode()
def test_a_single_pixel_and_a_constant_map_normalize_to_zero():
    layer = SPADE(8)
    for x in (normal(2, 8, 1, 1), torch.full((2, 8, 4, 4), 3.0)):
        semantic = planes(2, *x.shape[-2:])
        wanted = layer.beta(F.relu(layer.hidden(semantic)))
        torch.testing.assert_close(layer(x, semantic), wanted, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_batch_is_its_images_one_by_one():
    layer, x, semantic = SPADE(8), normal(3, 8, 9, 5) * torch.tensor([1.0, 5, 20]).view(3, 1, 1, 1), planes(3, 18, 10)
    apart = torch.cat([layer(x[i : i + 1], semantic[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(layer(x, semantic), apart, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_channels_last():
    layer, x, semantic = SPADE(8), normal(2, 8, 9, 5), planes(2, 18, 10)
    wanted = layer(x, semantic)
    inputs = (tensor.to(memory_format=torch.channels_last) for tensor in (x, semantic))
    got = layer.to(memory_format=torch.channels_last)(*inputs)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_large_mean_leaves_the_digits_of_what_varies(layout):
    layer, x, semantic = SPADE(8), normal(2, 8, 40, 30) / 2 + 100, planes(2, 40, 30)
    got = layer(x.to(memory_format=layout), semantic)
    torch.testing.assert_close(got.double(), layer.double()(x.double(), semantic.double()), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_float32_map_stays_float32_in_half_precision():
    layer, x, semantic = SPADE(8), normal(1, 8, 9, 5) + 200, planes(1, 9, 5)  # half precision leaves no digits of it
    wanted = layer(x, semantic)
    got = layer.bfloat16()(x, semantic.bfloat16())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.05)


def test_gradients():
    layer, semantic = SPADE(3, classes=4, hidden=5).double(), planes(2, 4, 6, classes=4).double()
    x = normal(2, 3, 4, 3).double().requires_grad_()
    parameters = tuple(layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: layer(x, semantic), (x, *parameters))


@pytest.mark.parametrize(
    ("x", "semantic", "message"),
    [
        ((2, 1, 4, 4), (2, 19, 4, 4), r"x: expected \[B, 8, h, w\], got \[2, 1, 4, 4\]"),
        ((8, 4, 4), (1, 19, 4, 4), r"x: expected \[B, 8, h, w\], got \[8, 4, 4\]"),
        ((2, 8, 4, 4), (1, 19, 4, 4), r"semantic: expected \[2, 19, H, W\], got \[1, 19, 4, 4\]"),
        ((2, 8, 4, 4), (2, 20, 4, 4), r"semantic: expected \[2, 19, H, W\], got \[2, 20, 4, 4\]"),
        ((2, 8, 4, 4), (2, 19, 4), r"semantic: expected \[2, 19, H, W\], got \[2, 19, 4\]"),
    ],
)
def test_wrong_shapes(x, semantic, message):
    with pytest.raises(ValueError, match=message):
        SPADE(8)(torch.zeros(x), torch.zeros(semantic))
