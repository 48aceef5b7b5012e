"""DeepLabV3+ against the golden files of the original, with weights by their rule; and narrow networks of random
weights, which need no files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from python_tests.conformance import golden, load, missing, network_input, scale_of
from python_tests.networks.weight_rule import weights_by_rule
from python_tests.places import CONFORMANCE
from rwpm_fast import Scorer, Walk, networks, scores
from rwpm_fast.networks import CITYSCAPES_CLASSES, DABNet, DeepLabWRN38
from rwpm_fast.networks.checkpoint import load_state


def with_weights_by_rule(network: DeepLabWRN38, prefix: str) -> DeepLabWRN38:
    load_state(network, weights_by_rule(network.state_dict(), prefix), name="network", path="rule")
    return network.eval()


def build(outputs: int, prefix: str) -> DeepLabWRN38:
    with torch.device("meta"):
        network = DeepLabWRN38(outputs)
    return with_weights_by_rule(network.to_empty(device="cpu"), prefix)


@pytest.fixture(scope="module")
def original():
    """Build the network whose classifier has so many outputs, with weights by the rule; the last one is kept."""
    built = {}

    def get(outputs: int) -> DeepLabWRN38:
        if outputs not in built:
            built.clear()
            built[outputs] = build(outputs, next(prefix for _, n, prefix in map(described, MANIFESTS) if n == outputs))
        return built[outputs]

    return get


@pytest.fixture(scope="module")
def narrow() -> DeepLabWRN38:
    return with_weights_by_rule(DeepLabWRN38(width=4), "branch1.")


def photos(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


MANIFESTS = sorted((CONFORMANCE / "manifests").glob("deeplab_wrn38*.json"))
CLASSIFIER = "final.6.weight"


def described(manifest: Path) -> tuple[dict[str, list], int, str]:
    """Entries of a manifest, outputs of its classifier, and what stands before the names of its entries."""
    entries = json.loads(manifest.read_text())
    name = next(name for name in entries if name.endswith(CLASSIFIER))
    return entries, entries[name][0][0], name.removesuffix(CLASSIFIER)


@pytest.mark.parametrize(
    "manifest", MANIFESTS or [pytest.param(None, marks=missing("manifests"))], ids=lambda path: path and path.stem
)
def test_keys_and_shapes_are_those_of_the_manifest(manifest):
    wanted, outputs, prefix = described(manifest)
    with torch.device("meta"):
        state = DeepLabWRN38(outputs).state_dict()
    got = {prefix + name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in state.items()}
    assert list(got.items()) == list(wanted.items())


QUANTITIES = {"embedding": "emb", "logits_up": "logits", "energy_raw": "e_raw", "energy_blur": "e_blur"}
NAME = re.compile(r"(?P<quantity>.*?)(?:_(?P<channels>ch_stride\d+)|_(?P<pixels>(?:pix_)?stride\d+)|_f64)*")


def check_golden(path: Path, name: str, wanted: np.ndarray, results: dict[str, torch.Tensor]) -> None:
    """An array of a golden file against our result of that quantity, at the pixels and channels that were kept."""
    quantity, channels, pixels = NAME.fullmatch(name).groups()
    every, step = (int(re.search(r"\d+", text)[0]) if text else 1 for text in (channels, pixels))
    got = results[quantity][..., ::step, ::step]
    got = got if channels is None else got[:, ::every]
    assert got.shape == wanted.shape, name

    quantity = QUANTITIES.get(quantity, quantity)
    scale = scale_of(path, quantity, wanted)
    tolerance = 1e-4 * scale["max_abs"]
    if quantity.startswith(("e_", "logits")):
        tolerance = min(tolerance, 1e-3 * scale["spatial_std"])
    assert (got.double() - torch.from_numpy(wanted)).abs().max().item() <= tolerance, name


def run(network: DeepLabWRN38, x: torch.Tensor, monkeypatch) -> dict[str, torch.Tensor]:
    """Every quantity of the golden files for an input [1, 3, H, W], the scores by way of Scorer."""
    monkeypatch.setattr(network, "preprocess", lambda _: x)
    results, size = {}, x.shape[-2:]
    hooks = {"m2": network.mod2, "mod7": network.mod7, "aspp": network.aspp, "bot_aspp": network.bot_aspp}
    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: results.__setitem__(name, output.clone()))
        for name, module in hooks.items()
    ]
    try:
        analysis = Scorer(network).analyze(np.zeros((*size, 3), np.uint8))
    finally:
        for handle in handles:
            handle.remove()
    embedding_map = analysis.embedding_map[None]
    logits = network.all_logits(embedding_map)
    return results | {
        "embedding": embedding_map,
        "logits_low": logits,
        "logits_up": F.interpolate(logits, size, mode="bilinear", align_corners=True),
        "energy_raw": analysis.plain.score("energy"),
        "energy_blur": analysis.plain.score("blurred_energy"),
    }


@golden("deeplab_wrn38")
@torch.inference_mode()
def test_reproduces_the_original(path, original, monkeypatch):
    arrays = {name: array for name, array in load(path).items() if not name.startswith("input")}
    outputs = next(array.shape[1] for name, array in arrays.items() if name.startswith("logits"))
    results = run(original(outputs), network_input(path), monkeypatch)
    for name, wanted in arrays.items():
        check_golden(path, name, wanted, results)


def test_contract():
    with torch.device("meta"):
        network = DeepLabWRN38()
    assert network.classes == CITYSCAPES_CLASSES and len(network.classes) == 19
    assert network.linear_head and network.align_corners and network.stride == 2
    assert networks.NETWORKS["deeplab_wrn38"] is DeepLabWRN38
    assert sum(parameter.numel() for parameter in network.parameters()) == 137_104_192


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (31, 18), (7, 5), (1, 1)])
@torch.inference_mode()
def test_any_size(narrow, height, width):
    embedding_map = narrow.embed(narrow.preprocess(photos(1, 3, height, width)))
    assert embedding_map.shape == (1, 16, -(-height // 2), -(-width // 2))
    assert embedding_map.min() >= 0


@torch.inference_mode()
def test_the_embedding_is_what_the_classifier_reads(narrow):
    seen = []
    handle = narrow.final[5].register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    embedding_map = narrow.embed(images(1, 3, 20, 30))
    handle.remove()
    assert torch.equal(embedding_map, seen[0])
    wanted = narrow.final[6](embedding_map)
    torch.testing.assert_close(narrow.all_logits(embedding_map), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(narrow.head(embedding_map), wanted[:, :19], rtol=0, atol=1e-6)
    torch.testing.assert_close(narrow(images(1, 3, 20, 30)), wanted[:, :19], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_batch_of_two_is_two_of_one(narrow):
    pair = images(2, 3, 41, 58)
    apart = torch.cat([narrow(image[None]) for image in pair])
    torch.testing.assert_close(narrow(pair), apart, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_channels_last(narrow):
    x = images(2, 3, 41, 58)
    network = DeepLabWRN38(width=4).eval()
    network.load_state_dict(narrow.state_dict())
    last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, narrow(x), rtol=0, atol=1e-5)


class SpyWalk(Walk):
    def forward(self, embedding_map, value_map=None, mask=None):
        self.dtypes = embedding_map.dtype, value_map.dtype
        return super().forward(embedding_map, value_map, mask)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["weights", "autocast"])
def test_half_precision_walks_in_float32(narrow, dtype, way):
    photo = photos(40, 60, 3).numpy()
    settings = {"steps": 5, "temperature": 0.1}
    wanted = Scorer(narrow, walk=Walk(**settings)).analyze(photo).walked.logits
    network = DeepLabWRN38(width=4)
    network.load_state_dict(narrow.state_dict())
    walk = SpyWalk(**settings)
    if way == "weights":
        got = Scorer(network.to(dtype), walk=walk).analyze(photo).walked.logits
    else:
        with torch.autocast("cpu", dtype):
            got = Scorer(network, walk=walk).analyze(photo).walked.logits
    assert walk.dtypes == (torch.float32, torch.float32)
    assert got.dtype == torch.float32
    error = (got - wanted).abs().max() / wanted.abs().max()
    assert 0 < error < (0.1 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.parametrize("parts", [1, 2])
def test_walking_logits_equals_walking_the_map(narrow, parts):
    photo, walk = photos(41, 58, 3).numpy(), Walk(temperature=0.05, parts=parts)
    logits, embeddings = (
        Scorer(narrow, walk=walk, walk_values=values).analyze(photo).walked.logits
        for values in ("logits", "embeddings")
    )
    assert logits.shape == (19, 21, 29)
    torch.testing.assert_close(logits, embeddings, rtol=0, atol=1e-5)


def test_blurred_energy_by_name(narrow):
    photo = photos(41, 58, 3).numpy()
    analysis = Scorer(narrow).analyze(photo)
    logits = F.interpolate(analysis.walked.logits[None], (41, 58), mode="bilinear", align_corners=True)
    wanted = scores.gaussian_blur(scores.energy(logits[0]))
    torch.testing.assert_close(Scorer(narrow, "blurred_energy")(photo).score, wanted)


def test_preprocessing(narrow):
    photo = photos(2, 3, 8, 9)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    got = narrow.preprocess(photo)
    torch.testing.assert_close(got, (photo.float() / 255 - mean) / std)
    before = photo.float()
    assert torch.equal(narrow.preprocess(before), got)
    assert torch.equal(before, photo.float())


# What a checkpoint may look like: who saved it, with which wrappers around the network, how many outputs it had.
CHECKPOINTS = {
    "pebal": lambda state: {"model": prefixed(state, "branch1."), "optimizer": {}, "epoch": 20, "iteration": 9},
    "pebal, bare": lambda state: prefixed(state, "branch1."),
    "parallel": lambda state: {"model": prefixed(state, "module.branch1.")},
    "nvidia": lambda state: {
        "state_dict": prefixed(state, "module.")
        | {"module.criterion.nll_loss.weight": torch.ones(19), "module.aux.2.bias": torch.ones(19)},
        "mean_iu": np.float64(0.8),
    },
    "no prefix": lambda state: state,
}


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("outputs", [19, 20])
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints(tmp_path, kind, outputs):
    state = with_weights_by_rule(DeepLabWRN38(outputs, width=4), "").state_dict()
    torch.save(CHECKPOINTS[kind](state), tmp_path / "w.pth")
    network = DeepLabWRN38.load(tmp_path / "w.pth", width=4)
    assert not network.training
    assert network.final[6].weight.shape[0] == outputs
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"final.6.weight": torch.zeros(21, 16, 1, 1)},
            r"final\.6\.weight has shape \[21, 16, 1, 1\], expected \[20, ",
        ),
        ({"final.6.weight": torch.zeros(())}, r"final\.6\.weight has shape \[\], expected \[20, "),
        ({"final.6.weight": None}, r"missing: final\.6\.weight$"),
        ({"mod2.block1.bn1.0.bias": None}, r"missing: mod2\.block1\.bn1\.0\.bias$"),
        ({"final.6.bias": torch.zeros(20)}, r"unexpected: final\.6\.bias$"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, narrow, change, message):
    state = prefixed({k: v for k, v in (narrow.state_dict() | change).items() if v is not None}, "branch1.")
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        DeepLabWRN38.load(tmp_path / "w.pth", width=4)


def test_weights_of_another_network(tmp_path, narrow):
    torch.save(DABNet().state_dict(), tmp_path / "dabnet.pth")
    with pytest.raises(ValueError, match="another network: it has 0 of the 268 entries of deeplab_wrn38"):
        networks.load("deeplab_wrn38", tmp_path / "dabnet.pth")
    torch.save(narrow.state_dict(), tmp_path / "deeplab.pth")
    with pytest.raises(ValueError, match="another network: it has 0 of the 415 entries of dabnet"):
        networks.load("dabnet", tmp_path / "deeplab.pth")
