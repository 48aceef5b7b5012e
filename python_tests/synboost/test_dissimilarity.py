"""The dissimilarity network against the golden files and the layouts of the original, with weights by their rule; and
narrow networks of random weights, which need no files."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from python_tests.conformance import golden, load, missing, scale_of
from python_tests.networks.weight_rule import weights_by_rule
from python_tests.places import CONFORMANCE
from python_tests.synboost.variants import (
    FULL,
    NARROW,
    RESYNTHESIS,
    VARIANTS,
    every_variant,
    flags_id,
    narrow,
    on_meta,
    random_inputs,
    released,
)
from rwpm_fast.networks.checkpoint import load_state
from rwpm_fast.synboost.dissimilarity import DissimilarityNet, semantic_one_hot


def observed(network: DissimilarityNet, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, list[tuple]]:
    """The logits, and the four inputs of each decoder block, coarse to fine."""
    seen: list[tuple] = []
    handles = [block.register_forward_pre_hook(lambda _m, args: seen.append(args)) for block in network.decoder]
    try:
        return network(*inputs), seen
    finally:
        for handle in handles:
            handle.remove()


def read_channels(block_inputs: tuple) -> torch.Tensor:
    """The channels that the first convolution of a block reads, in the order of its weights."""
    return torch.cat([tensor for tensor in block_inputs[:3] if tensor is not None], dim=1)


# Against the original.

MANIFESTS = sorted((CONFORMANCE / "manifests").glob("synboost_dissim_*.json"))


@pytest.mark.parametrize(
    "manifest", MANIFESTS or [pytest.param(None, marks=missing("manifests"))], ids=lambda path: path and path.stem
)
def test_keys_and_shapes_are_those_of_the_manifest(manifest):
    network = on_meta(**VARIANTS[manifest.stem.removeprefix("synboost_dissim_")])
    got = {
        name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in released(network).state_dict().items()
    }
    assert got == json.loads(manifest.read_text())
    assert not network.state_dict().keys() & got.keys()  # a file is of one layout or of the other


@pytest.fixture(scope="module")
def original():
    """Build the network of a variant with weights by the rule; those built are kept."""
    built: dict[str, DissimilarityNet] = {}

    def get(variant: str) -> DissimilarityNet:
        if variant not in built:
            network = on_meta(**VARIANTS[variant]).to_empty(device="cpu")
            state = weights_by_rule(released(network).state_dict())
            load_state(released(network), state, name="network", path="rule")
            built[variant] = network.eval()
        return built[variant]

    return get


def stored_inputs(arrays: dict[str, torch.Tensor], network: DissimilarityNet) -> list[torch.Tensor]:
    inputs = [arrays["image"], arrays["synthesis"], semantic_one_hot(arrays["label"][None])]
    if network.dispersion_encoder is not None:
        inputs.append(torch.cat([arrays[name] for name in ("entropy", "perceptual", "distance")], dim=1))
    return inputs


BLOCK_INPUT = re.compile(
    r"dec(?P<block>\d)_in_(?:first(?P<count>\d+)|ch(?P<from>\d+)_(?P<to>\d+))(?:_pixstride(?P<step>\d))?_"
)


def result(name: str, logits: torch.Tensor, blocks: list[tuple]) -> tuple[str, torch.Tensor]:
    """The quantity of a stored array, by its name in the table of scales, and our result, at the pixels and channels
    that were kept."""
    if name.startswith("logits"):
        return "logits", logits
    if name.startswith("prob"):
        return "prob", logits.softmax(1)[:, 1]
    kept = BLOCK_INPUT.match(name)
    assert kept, name
    first, last = int(kept["from"] or 0), int(kept["to"] or int(kept["count"] or 0) - 1)
    step = int(kept["step"] or 1)
    return f"dec{kept['block']}_in", read_channels(blocks[int(kept["block"]) - 1])[:, first : last + 1, ::step, ::step]


@golden("synboost_dissimilarity", "logits")
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_reproduces_the_original(path, variant, original):
    arrays = {name: torch.from_numpy(array) for name, array in load(path).items()}
    wanted = {name: array for name, array in arrays.items() if name.split("_", 1)[-1].endswith(variant)}
    wanted = {name: array for name, array in wanted.items() if not name.startswith("logits64")}
    network = original(variant)
    logits, blocks = observed(network, stored_inputs(arrays, network))
    for name, array in wanted.items():
        quantity, got = result(name, logits, blocks)
        assert got.shape == array.shape, name
        scale = scale_of(path, quantity, array, f"{path.stem}_{variant}")
        bound = 1e-4 * scale["max_abs"]
        if quantity in ("logits", "prob"):
            bound = min(bound, 1e-3 * scale["spatial_std"])
        error = (got - array).abs().max().item()
        print(f"{path.stem} {name}: error {error:.2e}, bound {bound:.2e}")
        assert error <= bound, name
    assert wanted


@golden("synboost_dissimilarity", "logits64")
@torch.inference_mode()
def test_reproduces_the_original_in_float64(path, original):
    arrays = {name: torch.from_numpy(array) for name, array in load(path).items()}
    for name, array in arrays.items():
        if name.startswith("logits64_"):
            variant = name.removeprefix("logits64_")
            network = on_meta(**VARIANTS[variant]).to_empty(device="cpu").double()
            network.load_state_dict(original(variant).state_dict())
            got = network(*stored_inputs(arrays, network))
            error = ((got - array).abs().max() / array.abs().max()).item()
            print(f"{path.stem} {name}: relative error {error:.2e}, bound 1e-9")
            assert got.dtype == torch.float64 and error <= 1e-9


# Sizes and figures of the network, without computing anything.


@pytest.mark.parametrize(
    ("flags", "parameters"),
    [
        (FULL, 18_780_162),
        (FULL | {"image_correlation": False}, 18_773_826),
        (FULL | {"spade": False}, 15_357_186),
        (FULL | {"dispersion": False}, 17_221_506),
        (RESYNTHESIS, 13_798_530),
        (RESYNTHESIS | {"image_correlation": False}, 13_792_194),
    ],
    ids=str,
)
def test_parameter_counts(flags, parameters):
    network = on_meta(**flags)
    assert count(network) == parameters
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not list(network.buffers())


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_parameter_counts_of_the_parts():
    network = on_meta()
    assert count(network.image_encoder) == 7_635_264
    assert count(network.semantic_encoder) == 417_344
    assert count(network.dispersion_encoder) == 1_558_656
    assert [count(fusion) for fusion in network.fusions] == [10_304, 41_088, 164_096, 655_872]
    parts = [
        (count(block.first), count(block.first_norm, block.second, block.second_norm), block.upsample)
        for block in network.decoder
    ]
    assert [(first, rest, up and count(up)) for first, rest, up in parts] == [
        (1_182_208, 1_814_784, 262_400),
        (1_182_208, 1_814_784, 262_400),
        (443_648, 781_952, 65_664),
        (111_232, 376_128, None),
    ]
    assert count(network.head) == 130


def fake_run(**flags) -> tuple[torch.Tensor, list[tuple], float]:
    """Logits and block inputs of one image of 256 × 512, all without numbers; and the operations in 1e9."""
    with FakeTensorMode():
        network = DissimilarityNet(**flags)
        maps = (torch.empty(1, 1, 256, 512) for _ in range(3))
        inputs = [torch.empty(1, channels, 256, 512) for channels in (3, 3, 19)]
        if flags.get("dispersion", True):
            inputs.append(torch.cat([*maps], dim=1))
        with FlopCounterMode(display=False) as counter:
            logits, blocks = observed(network, inputs)
    return logits, blocks, counter.get_total_flops() / 1e9


@every_variant
def test_channels_of_the_decoder(flags):
    logits, blocks, _ = fake_run(**flags)
    assert logits.shape == (1, 2, 256, 512)
    wanted = [513, 513, 385, 193] if flags["image_correlation"] else [512, 512, 384, 192]
    assert [read_channels(block).shape[1] for block in blocks] == wanted
    assert [block.first.in_channels for block in on_meta(**flags).decoder] == wanted
    assert [tuple(fused.shape[-2:]) for _, _, fused, _ in blocks] == [(32, 64), (64, 128), (128, 256), (256, 512)]


def test_operations():
    assert fake_run()[2] == pytest.approx(463.9, abs=0.05)


# What the network computes.


def assert_same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal up to the bound of the golden files: SPADE amplifies rounding where a map hardly varies."""
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())


@torch.inference_mode()
def test_zero_dispersion_leaves_the_correlation_alone():
    network, inputs = narrow(), random_inputs(1, 16, 24)
    _, with_dispersion = observed(network, inputs)
    handle = network.dispersion_encoder.register_forward_hook(lambda _m, _i, maps: [map_.zero_() for map_ in maps])
    _, without = observed(network, inputs)
    handle.remove()
    for (_, correlation, fused, _), (_, zeroed_correlation, zeroed, _) in zip(with_dispersion, without, strict=True):
        assert fused.any() and not zeroed.any()
        assert correlation.shape[1] == 1 and (correlation > 0).any()
        assert torch.equal(correlation, zeroed_correlation)


@torch.inference_mode()
def test_correlation_is_the_inner_product_of_the_features():
    network, inputs = narrow(), random_inputs(1, 16, 24)
    _, blocks = observed(network, inputs)
    features = zip(network.image_encoder(inputs[0]), network.image_encoder(inputs[1]), strict=True)
    for block, (image, synthesis) in zip(reversed(blocks), features, strict=True):
        torch.testing.assert_close(block[1], torch.einsum("bchw,bchw->bhw", image, synthesis)[:, None])


@torch.inference_mode()
def test_the_first_convolution_reads_all_channels_as_one():
    """The correlation takes a way of its own, which must lead to the same."""
    network = narrow().double()
    _, blocks = observed(network, [tensor.double() for tensor in random_inputs(2, 16, 24)])
    for block, inputs in zip(network.decoder, blocks, strict=True):
        seen = []
        handle = block.first_norm.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0]))
        block(*inputs)
        handle.remove()
        torch.testing.assert_close(seen[0], F.selu(block.first(read_channels(inputs))), rtol=1e-10, atol=1e-10)


@every_variant
@torch.inference_mode()
def test_batch_is_its_images_one_by_one(flags):
    network, inputs = narrow(**flags), random_inputs(3, 16, 24, dispersion=flags["dispersion"])
    apart = torch.cat([network(*(tensor[i : i + 1] for tensor in inputs)) for i in range(3)])
    assert_same(network(*inputs), apart)
    assert (apart[0] - apart[1]).abs().max() > 1e-3


@every_variant
@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 40), (24, 8), (40, 56), (72, 24)])
@torch.inference_mode()
def test_odd_multiples_of_8(flags, height, width):
    logits = narrow(**flags)(*random_inputs(1, height, width, dispersion=flags["dispersion"]))
    assert logits.shape == (1, 2, height, width) and logits.isfinite().all()


@every_variant
@torch.inference_mode()
def test_channels_last(flags):
    inputs = random_inputs(2, 24, 40, dispersion=flags["dispersion"])
    wanted = narrow(**flags)(*inputs)
    network = narrow(**flags).to(memory_format=torch.channels_last)
    got = network(*(tensor.to(memory_format=torch.channels_last) for tensor in inputs))
    assert_same(got, wanted)


@torch.inference_mode()
def test_training_and_evaluation_compute_the_same():
    network, inputs = narrow(), random_inputs(2, 16, 24)
    assert torch.equal(network.train()(*inputs), network.eval()(*inputs))


@pytest.mark.parametrize("flags", [FULL, RESYNTHESIS], ids=flags_id)
@torch.inference_mode()
def test_compiles_as_one_graph(flags):
    network, inputs = narrow(**flags), random_inputs(1, 16, 24, dispersion=flags["dispersion"])
    assert_same(torch.compile(network, backend="eager", fullgraph=True)(*inputs), network(*inputs))


def in_half(network: DissimilarityNet, inputs: list[torch.Tensor], dtype: torch.dtype, way: str):
    if way == "weights":
        return observed(network.to(dtype), inputs)
    with torch.autocast("cpu", dtype):
        return observed(network, inputs)


half_precision = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
both_ways = pytest.mark.parametrize("way", ["weights", "autocast"])


@half_precision
@both_ways
@every_variant
@torch.inference_mode()
def test_half_precision(flags, dtype, way):
    inputs = random_inputs(1, 24, 40, dispersion=flags["dispersion"])
    wanted = narrow(**flags)(*inputs)
    got, blocks = in_half(narrow(**flags), inputs, dtype, way)
    assert got.dtype == torch.float32
    for _, correlation, fused, _ in blocks:
        assert fused.dtype == dtype
        assert (None if correlation is None else correlation.dtype) == (
            torch.float32 if flags["image_correlation"] else None
        )
    error = (got - wanted).square().mean().sqrt() / wanted.std()
    assert 0 < error < (0.15 if dtype == torch.bfloat16 else 0.02)


@half_precision
@both_ways
@torch.inference_mode()
def test_correlation_keeps_its_digits_in_half_precision(dtype, way):
    """A correlation as large as that of real features, beyond float16, that varies by less than bfloat16 tells."""
    block, semantic = narrow().decoder[0], torch.zeros(1, 19, 8, 8)
    correlation = 1e5 + 100 * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fused = torch.zeros(1, 8 * NARROW, 8, 8)
    nn.init.constant_(block.first.weight, 0)
    nn.init.constant_(block.first.weight[:, 0, 1, 1], 2**-10)  # exact in every dtype
    wanted = block(None, correlation, fused, semantic)
    if way == "weights":
        got = block.to(dtype)(None, correlation, fused.to(dtype), semantic.to(dtype))
    else:
        with torch.autocast("cpu", dtype):
            got = block(None, correlation, fused.to(dtype), semantic)
    assert wanted.std() > 0.05
    assert (got - wanted).abs().max() < 0.1 * wanted.std()


def test_gradients_reach_every_parameter():
    network, inputs = narrow(), random_inputs(2, 16, 24)
    network(*inputs).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_frozen_image_encoder():
    network, inputs = narrow(freeze_vgg=True), random_inputs(1, 16, 24)
    assert torch.equal(network(*inputs), narrow()(*inputs))
    network(*inputs).square().mean().backward()
    frozen = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert frozen == {name for name in network.state_dict() if name.startswith("image_encoder.")}


def test_ignored_pixels_give_no_gradient():
    network, inputs = narrow(), random_inputs(1, 16, 24)
    F.cross_entropy(network(*inputs), torch.full((1, 16, 24), 255), ignore_index=255, reduction="sum").backward()
    assert not any(parameter.grad.any() for parameter in network.parameters())


def test_initial_weights_of_the_map_encoders():
    network = DissimilarityNet()
    for encoder in (network.semantic_encoder, network.dispersion_encoder):
        for level in encoder.levels:
            weight, bias = level.weight, level.bias
            fan_out = weight.shape[0] * weight[0, 0].numel()
            assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert not bias.any()


# Inputs that do not fit.


def changed(position: int, tensor: torch.Tensor | None) -> list[torch.Tensor | None]:
    inputs: list[torch.Tensor | None] = [*random_inputs(2, 16, 24)]
    inputs[position] = tensor
    return inputs


@pytest.mark.parametrize(
    ("position", "tensor", "error", "message"),
    [
        (0, torch.zeros(3, 16, 24), ValueError, r"image: expected \[B, 3, H, W\], got \[3, 16, 24\]"),
        (0, torch.zeros(2, 1, 16, 24), ValueError, r"image: expected \[B, 3, H, W\], got \[2, 1, 16, 24\]"),
        (0, torch.zeros(2, 3, 20, 24), ValueError, r"image: .*multiples of 8, got 20 × 24; resize"),
        (0, torch.zeros(2, 3, 16, 25), ValueError, r"image: .*multiples of 8, got 16 × 25; resize"),
        (0, torch.zeros(2, 3, 0, 24), ValueError, r"image: .*multiples of 8, got 0 × 24"),
        (
            0,
            torch.zeros(2, 3, 16, 24, dtype=torch.uint8),
            TypeError,
            "image: .*floating point, got uint8; .*normalized",
        ),
        (1, torch.zeros(2, 3, 16, 16), ValueError, r"synthesis: expected \[2, 3, 16, 24\].*got \[2, 3, 16, 16\]"),
        (1, torch.zeros(1, 3, 16, 24), ValueError, r"synthesis: expected \[2, 3, 16, 24\].*got \[1, 3, 16, 24\]"),
        (2, torch.zeros(2, 20, 16, 24), ValueError, r"semantic: expected \[2, 19, 16, 24\].*got \[2, 20, 16, 24\]"),
        (2, torch.zeros(2, 16, 24), ValueError, r"semantic: expected \[2, 19, 16, 24\].*got \[2, 16, 24\]"),
        (2, torch.zeros(2, 19, 16, 24).long(), TypeError, "semantic: .*got int64; .*semantic_one_hot"),
        (3, torch.zeros(2, 1, 16, 24), ValueError, r"dispersion: expected \[2, 3, 16, 24\].*got \[2, 1, 16, 24\]"),
        (3, None, ValueError, r"dispersion: expected \[2, 3, 16, 24\], got None; .*dispersion=False"),
    ],
)
def test_wrong_inputs(position, tensor, error, message):
    network = narrow()
    network.image_encoder.forward = None  # nothing is computed
    with pytest.raises(error, match=message):
        network(*changed(position, tensor))


def test_dispersion_for_a_network_without():
    with pytest.raises(ValueError, match=r"dispersion: expected None, .*dispersion=False, got maps"):
        narrow(dispersion=False)(*random_inputs(1, 16, 24))


@pytest.mark.parametrize(("width", "error"), [(0, ValueError), (-2, ValueError), (7, ValueError), (8.0, TypeError)])
def test_wrong_width(width, error):
    with pytest.raises(error, match="width: expected"):
        DissimilarityNet(width=width)


# The segmentation as planes.


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_semantic_one_hot(dtype):
    labels = torch.tensor([*range(19), 19, 255]).to(dtype).reshape(1, 3, 7)
    planes = semantic_one_hot(labels)
    assert planes.shape == (1, 19, 3, 7) and planes.dtype == torch.float32
    wanted = np.zeros((21, 19), np.float32)
    wanted[np.arange(19), np.arange(19)] = 1
    np.testing.assert_array_equal(planes[0].flatten(1).T.numpy(), wanted)
    assert torch.equal(semantic_one_hot(labels[0]), planes[0])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.zeros(4, 4), TypeError, "labels: expected integers, got float32"),
        (torch.zeros(4, 4, dtype=torch.bool), TypeError, "labels: expected integers, got bool"),
        (torch.zeros(4).long(), ValueError, r"labels: expected \[\.\.\., H, W\], got \[4\]"),
        (torch.tensor([[0, 33], [26, 18]]), ValueError, r"train ids 0\.\.18, or 19 or 255 .*got 26, 33; map label ids"),
        (torch.tensor([[-1, 20]]), ValueError, "got -1, 20; "),
        (torch.tensor([[254, 256]]), ValueError, "got 254, 256; "),
    ],
)
def test_wrong_labels(labels, error, message):
    with pytest.raises(error, match=message):
        semantic_one_hot(labels)
