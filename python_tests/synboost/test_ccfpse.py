"""CC-FPSE against the golden files of the original, with weights by their rule; and narrow networks, which need no
files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from python_tests.conformance import golden, load, missing, scale_of
from python_tests.places import CONFORMANCE
from python_tests.synboost.spectral_rule import filled
from rwpm_fast.synboost.ccfpse import CCFPSEEncoder, CCFPSEGenerator, Predictor, SpectralConv2d, _conditional_depthwise
from rwpm_fast.synboost.synthesis import label_planes

SIZE = (64, 128)


@pytest.fixture(scope="module")
def original():
    """Build a network of published width with weights by the rule; the last one is kept."""
    built = {}

    def get(kind: type[nn.Module], *args: object) -> nn.Module:
        if (kind, args) not in built:
            built.clear()
            built[kind, args] = filled(kind, *args)
        return built[kind, args]

    yield get
    built.clear()


@pytest.fixture(scope="module")
def narrow() -> CCFPSEGenerator:
    return filled(CCFPSEGenerator, SIZE, width=4)


@pytest.fixture(scope="module")
def narrow_encoder() -> CCFPSEEncoder:
    return filled(CCFPSEEncoder, width=4)


def scenes(batch: int, size: tuple[int, int] = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """Label planes [B, 36, *size] of random rectangles, and latent vectors [B, 256]."""
    rng = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 34, (batch, size[0] // 8, size[1] // 8), generator=rng)
    label_map = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return label_planes(label_map), torch.randn(batch, 256, generator=rng)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


MANIFESTS = sorted((CONFORMANCE / "manifests").glob("*ccfpse*.json"))


@pytest.mark.parametrize(
    "manifest", MANIFESTS or [pytest.param(None, marks=missing("manifests"))], ids=lambda path: path and path.stem
)
def test_keys_and_shapes_are_those_of_the_manifest(manifest):
    wanted = json.loads(manifest.read_text())
    with torch.device("meta"):
        network = CCFPSEEncoder() if "fc_mu.weight" in wanted else CCFPSEGenerator()
    got = {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in network.state_dict().items()}
    assert list(got.items()) == list(wanted.items())


NAME = re.compile(
    r"(?P<quantity>.+?)(?:_ch_stride(?P<channels>\d+))?(?:_(?:pix_)?stride(?P<pixels>\d+))?"
    r"(?:_crop_rows(?P<top>\d+)_(?P<bottom>\d+)_cols(?P<left>\d+)_(?P<right>\d+))?(?P<double>_f64)?"
)
INPUTS = {"label", "edge", "z", "image_low", "size"}


def kept(results: dict[str, torch.Tensor], name: re.Match[str]) -> torch.Tensor:
    """What a golden array keeps of our result of that quantity."""
    got = results[name["quantity"]]
    if name["top"]:
        top, bottom, left, right = (int(name[side]) for side in ("top", "bottom", "left", "right"))
        return got[..., top:bottom, left:right]
    if name["pixels"]:
        got = got[..., :: int(name["pixels"]), :: int(name["pixels"])]
    return got[:, :: int(name["channels"])] if name["channels"] else got


def check_golden(path: Path, results: dict[str, torch.Tensor], double: float | None = None) -> None:
    """All float32 arrays of a golden file against our results, or the float64 ones, to a relative error ``double``."""
    names = {name: NAME.fullmatch(name) for name in load(path) if name not in INPUTS}
    of_precision = {name: match for name, match in names.items() if bool(match["double"]) == bool(double)}
    assert of_precision
    for name, match in of_precision.items():
        wanted = torch.from_numpy(load(path)[name])
        got = kept(results, match)
        assert got.shape == wanted.shape and got.dtype == wanted.dtype, name
        scale = scale_of(path, match["quantity"], wanted)
        bound = (double or 1e-4) * scale["max_abs"]
        if not double:
            bound = min(bound, 1e-3 * scale["spatial_std"])
        error = (got - wanted).abs().max().item()
        print(f"{path.stem} {name}: {error:.1e}, bound {bound:.1e}")
        assert error <= bound, name


def generated(network: CCFPSEGenerator, path: Path) -> dict[str, torch.Tensor]:
    """The image of a golden file's scene, and what the modules give that the file has arrays of."""
    arrays = load(path)
    planes = label_planes(torch.from_numpy(arrays["label"])[None])
    assert np.array_equal(planes[0, -1].numpy(), arrays["edge"])
    modules = dict(network.named_modules())
    quantities = {NAME.fullmatch(name)["quantity"] for name in arrays} & modules.keys()
    assert quantities
    results = {}
    handles = [
        modules[quantity].register_forward_hook(lambda _m, _i, output, key=quantity: results.__setitem__(key, output))
        for quantity in quantities
    ]
    try:
        results["out"] = network(planes, torch.from_numpy(arrays["z"]))
    finally:
        for handle in handles:
            handle.remove()
    return results


@golden("ccfpse_generator", "z")
@torch.inference_mode()
def test_generator_reproduces_the_original(path, original):
    arrays = load(path)
    network = original(CCFPSEGenerator, arrays["label"].shape)
    check_golden(path, generated(network, path))
    if "out_f64" in arrays:
        try:
            check_golden(path, generated(network.double(), path), double=1e-9)
        finally:
            network.float()  # its weights had no digits beyond


def encoded(network: CCFPSEEncoder, path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    arrays = load(path)
    low = torch.from_numpy(arrays["image_low"]).to(dtype)
    image = F.interpolate(low, tuple(arrays["size"].tolist()), mode="bilinear", align_corners=False)
    return dict(zip(("mu", "logvar"), network(image), strict=True))


@golden("ccfpse_generator", "image_low")
@torch.inference_mode()
def test_encoder_reproduces_the_original(path, original):
    network = original(CCFPSEEncoder)
    check_golden(path, encoded(network, path, torch.float32))
    try:
        # The files have the image at an eighth of its size: the last bit of the enlarged one, which the kernels of
        # different machines round differently in float32, moves the results by a few times 1e-7.
        check_golden(path, encoded(network.double(), path, torch.float64), double=1e-6)
    finally:
        network.float()


def test_conditional_depthwise_convolution_is_its_definition():
    x, kernels = images(2, 3, 5, 7), images(2, 3, 9, 5, 7)
    patches = F.unfold(x, 3, padding=1).view_as(kernels)
    torch.testing.assert_close(_conditional_depthwise(x, iter(kernels.unbind(2))), (patches * kernels).sum(2))


def test_same_kernel_everywhere_is_a_depthwise_convolution():
    x, kernel = images(2, 3, 5, 7), images(3, 1, 3, 3)
    taps = (kernel.flatten()[tap::9].view(1, 3, 1, 1) for tap in range(9))
    torch.testing.assert_close(_conditional_depthwise(x, taps), F.conv2d(x, kernel, padding=1, groups=3))


def test_taps_are_the_outputs_nine_by_nine():
    predictor, condition = Predictor(4, 6, 9 * 3), images(2, 4, 5, 7)
    with torch.no_grad():
        got, wanted = torch.stack(list(predictor.taps(condition)), 2), predictor(condition)
    torch.testing.assert_close(got.flatten(1, 2), wanted)


@torch.inference_mode()
def test_spectral_norm_of_the_applied_weight_is_one():
    conv = SpectralConv2d(5, 6, 1)
    left, _, right = torch.linalg.svd(conv.weight_orig.flatten(1))
    conv.weight_u.copy_(left[:, 0])
    conv.weight_v.copy_(right[0])
    applied = conv(torch.eye(5).view(5, 5, 1, 1)).flatten(1).T  # [6, 5]
    torch.testing.assert_close(torch.linalg.matrix_norm(applied, 2), torch.tensor(1.0))
    torch.testing.assert_close(applied / applied.norm(), conv.weight_orig.flatten(1) / conv.weight_orig.norm())


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (64, 192)])
@torch.inference_mode()
def test_images_without_loaded_weights(size):
    torch.manual_seed(0)
    image = CCFPSEGenerator(size, width=4).eval()(*scenes(1, size))
    assert image.shape == (1, 3, *size) and image.isfinite().all()
    assert image.abs().max() <= 1 and image.std() > 0


@torch.inference_mode()
def test_batch_of_two_is_two_of_one(narrow, narrow_encoder):
    planes, z = scenes(2)
    apart = torch.cat([narrow(planes[i : i + 1], z[i : i + 1]) for i in range(2)])
    assert (apart[0] - apart[1]).abs().max() > 0.01
    torch.testing.assert_close(narrow(planes, z), apart, rtol=0, atol=1e-5)
    pair = images(2, 3, 41, 58)
    for got, *wanted in zip(narrow_encoder(pair), *(narrow_encoder(image[None]) for image in pair), strict=True):
        torch.testing.assert_close(got, torch.cat(wanted), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_channels_last(narrow, narrow_encoder):
    planes, z = scenes(2)
    last = {"memory_format": torch.channels_last}
    network, encoder = filled(CCFPSEGenerator, SIZE, width=4).to(**last), filled(CCFPSEEncoder, width=4).to(**last)
    torch.testing.assert_close(network(planes.to(**last), z), narrow(planes, z), rtol=0, atol=1e-5)
    pair = images(2, 3, 41, 58)
    torch.testing.assert_close(encoder(pair.to(**last)), narrow_encoder(pair), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["weights", "autocast"])
@torch.inference_mode()
def test_half_precision(narrow, narrow_encoder, dtype, way):
    planes, z = scenes(1)
    image = images(1, 3, 41, 58)
    network, encoder = filled(CCFPSEGenerator, SIZE, width=4), filled(CCFPSEEncoder, width=4)
    if way == "weights":
        network.to(dtype), encoder.to(dtype)
    with torch.autocast("cpu", dtype, enabled=way == "autocast"):
        got = network(planes, z), *encoder(image)
    for ours, wanted in zip(got, (narrow(planes, z), *narrow_encoder(image)), strict=True):
        error = (ours.float() - wanted).abs().max() / wanted.abs().max()
        assert 0 < error < (0.1 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.parametrize("size", [(31, 57), (1, 1), (300, 257)])
@torch.inference_mode()
def test_encoder_takes_any_size(narrow_encoder, size):
    mean, log_variance = narrow_encoder(images(1, 3, *size))
    assert mean.shape == log_variance.shape == (1, 256)
    assert mean.isfinite().all() and log_variance.isfinite().all()


@pytest.mark.parametrize("size", [(100, 128), (0, 64), (64, -64), (64,)])
def test_sizes_that_no_generator_has(size):
    with pytest.raises(ValueError, match=r"size: expected height and width, positive multiples of 64, got \("):
        CCFPSEGenerator(size, width=4)


@pytest.mark.parametrize("shape", [(1, 35, *SIZE), (1, 36, 32, 128), (36, *SIZE)])
def test_label_planes_of_another_shape(narrow, shape):
    with pytest.raises(ValueError, match=r"labels: expected shape \[B, 36, 64, 128\], got \["):
        narrow(torch.zeros(shape), torch.zeros(1, 256))


def test_latent_vectors_of_another_shape(narrow):
    with pytest.raises(ValueError, match=r"z: expected shape \[2, 256\], got \[1, 256\]"):
        narrow(scenes(2)[0], torch.zeros(1, 256))


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_images_of_another_shape(narrow_encoder, shape):
    with pytest.raises(ValueError, match=r"images: expected shape \[B, 3, H, W\], got \["):
        narrow_encoder(torch.zeros(shape))


@pytest.mark.parametrize(("prefix", "counters"), [("", True), ("module.", False)])
def test_checkpoints(tmp_path, narrow, narrow_encoder, prefix, counters):
    for network, settings in ((narrow, {"size": SIZE}), (narrow_encoder, {})):
        state = network.state_dict()
        kept = {prefix + name: t for name, t in state.items() if counters or not name.endswith("num_batches_tracked")}
        torch.save(kept, tmp_path / "w.pth")
        loaded = type(network).load(tmp_path / "w.pth", width=4, **settings)
        assert not loaded.training
        assert loaded.state_dict().keys() == state.keys()
        assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("name", ["labeldec6.0.0.weight_v", "up_3.norm_0.running_var", "head_0.conv_2.norm_layer.bias"])
@pytest.mark.parametrize("change", ["missing", "mismatched"])
def test_what_does_not_fit_is_named(tmp_path, narrow, name, change):
    state = narrow.state_dict()
    tensor = state.pop(name)
    if change == "mismatched":
        state[name] = tensor[1:]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"does not fit ccfpse_generator: {change}: {re.escape(name)}"):
        CCFPSEGenerator.load(tmp_path / "w.pth", size=SIZE, width=4)


def test_checkpoint_of_another_size(tmp_path, narrow):
    torch.save(narrow.state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"size: .*fc\.weight of .*gives 2 cells of 64 x 64 pixels, got 256 x 512, which has 32"
    ):
        CCFPSEGenerator.load(tmp_path / "w.pth", width=4)


def test_checkpoints_of_another_network(tmp_path, narrow, narrow_encoder):
    torch.save(narrow.state_dict(), tmp_path / "g.pth")
    torch.save(narrow_encoder.state_dict(), tmp_path / "e.pth")
    with pytest.raises(ValueError, match="another network: it has 0 of the 519 entries of ccfpse_generator"):
        CCFPSEGenerator.load(tmp_path / "e.pth", size=SIZE, width=4)
    with pytest.raises(ValueError, match="another network: it has 0 of the 22 entries of ccfpse_encoder"):
        CCFPSEEncoder.load(tmp_path / "g.pth", width=4)


def test_truncated_and_absent_files(tmp_path, narrow_encoder):
    path = tmp_path / "w.pth"
    with pytest.raises(FileNotFoundError):
        CCFPSEEncoder.load(path)
    torch.save(narrow_encoder.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        CCFPSEEncoder.load(path, width=4)
