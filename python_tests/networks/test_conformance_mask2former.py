"""Mask networks against the golden files of the original implementations, with weights by their rule."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("scipy")

from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding as Positions

from python_tests.conformance import golden, golden_files, load, missing, random_normal, readme, scale_of
from python_tests.networks.weight_rule import weights_by_rule
from python_tests.places import CONFORMANCE
from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.networks import detectron2, mask2former_model
from rwpm_fast.networks.checkpoint import is_unread, load_state

MANIFESTS = [
    path
    for path in sorted((CONFORMANCE / "manifests").glob("*.json"))
    if "sem_seg_head.predictor.query_feat.weight" in json.loads(path.read_text())
]
LAYER = "sem_seg_head.predictor.transformer_cross_attention_layers"
TABLE = re.compile(r"backbone\.layers\.(\d)\.blocks\.(\d+)\.attn\.relative_position_bias_table")


def swin(manifest: dict[str, list]) -> dict[str, Any]:
    """Settings of the Swin transformer whose entries a manifest lists."""
    tables = {
        tuple(map(int, found.groups())): manifest[found[0]][0] for found in map(TABLE.fullmatch, manifest) if found
    }
    stages = range(1 + max(stage for stage, _ in tables))
    return {
        "width": manifest["backbone.patch_embed.proj.weight"][0][0],
        "depths": tuple(sum(at == stage for at, _ in tables) for stage in stages),
        "heads": tuple(tables[stage, 0][1] for stage in stages),
        "window": (math.isqrt(tables[0, 0][0]) + 1) // 2,  # a table has (2 window - 1)^2 rows
    }


def build(manifest: dict[str, list]) -> torch.nn.Module:
    """The model whose entries a manifest lists; the package's own where it has one of these sizes."""
    parts = {
        "classes": manifest["sem_seg_head.predictor.class_embed.weight"][0][0] - 1,
        "levels": manifest["sem_seg_head.predictor.level_embed.weight"][0][0],
        "decoder_layers": sum(name.startswith(LAYER) and name.endswith(".norm.weight") for name in manifest),
        "global_masked_attention": f"{LAYER}.0.multihead_attn_foreground.out_proj.weight" in manifest,
    }
    backbone = swin(manifest) if "backbone.patch_embed.proj.weight" in manifest else "resnet"
    for published, settings in PUBLISHED:
        if settings == {"backbone": backbone, **parts}:
            return published.build()
    return mask2former_model.mask2former(
        mask2former_model.resnet() if backbone == "resnet" else mask2former_model.swin(**backbone), **parts
    )


ONE_LAYER = {"classes": 19, "levels": 1, "decoder_layers": 1, "global_masked_attention": False}
NINE_LAYERS = {"classes": 19, "levels": 3, "decoder_layers": 9, "global_masked_attention": True}
SWIN_B = {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "window": 12}
SWIN_L = {"width": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48), "window": 12}
PUBLISHED = (
    (networks.RbASwinB, {"backbone": SWIN_B, **ONE_LAYER}),
    (networks.RbASwinL, {"backbone": SWIN_L, **ONE_LAYER}),
    (networks.Mask2Anomaly, {"backbone": "resnet", **NINE_LAYERS}),
)


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Weights by the rule under detectron2's keys, loaded as a checkpoint is."""
    view = detectron2.Detectron2State(model)
    load_state(view, weights_by_rule(view.state_dict()), name="network", path="rule")
    return model.eval()


@pytest.mark.parametrize(
    "path", MANIFESTS or [pytest.param(None, marks=missing("manifests"))], ids=lambda path: path and path.stem
)
def test_keys_and_shapes_are_those_of_the_manifest(path):
    wanted = json.loads(path.read_text())
    with torch.device("meta"):  # shapes without weights
        model = build(wanted)
    whole = any(key.startswith("backbone.") for key in wanted)
    got = {
        key: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for key, tensor in detectron2.Detectron2State(model).state_dict().items()
        if whole or not key.startswith("backbone.")
    }
    assert got == {key: entry for key, entry in wanted.items() if not is_unread(key, detectron2.UNREAD)}
    unused = {re.sub(r"\d+", "N", key) for key in wanted.keys() - got.keys()}
    assert unused <= {
        "criterion.empty_weight",
        "backbone.layers.N.blocks.N.attn.relative_position_index",
        "sem_seg_head.predictor.transformer_cross_attention_layers.N.fusion_layer.weight",
        "sem_seg_head.predictor.transformer_cross_attention_layers.N.fusion_layer.bias",
    }


SUFFIX = re.compile(r"(_ch)?(?:_query)?_stride(\d+)$")


def check(
    got: torch.Tensor, name: str, wanted: np.ndarray, scale: dict[str, float], *, part: float = 1e-4, score=False
) -> None:
    """Our result [1, C, ...] or [C, ...] against what a file keeps of it."""
    if found := SUFFIX.search(name):
        step = int(found[2])
        got = got[..., ::step, ::step] if "semantic" in name else got[:, ::step]
    assert got.shape == wanted.shape, name
    tolerance = part * scale["max_abs"]
    if score:
        tolerance = min(tolerance, 1e-3 * scale["spatial_std"])
    error = (got.double() - torch.from_numpy(wanted)).abs().max().item()
    assert error <= tolerance, f"{name}: {error} > {tolerance}"


# RbA: whole networks

RBA = "mask2former_rba"
TAG = re.compile(r"(plain|rwpm_n(\d+)_TT(\d+))_rba")


def tags(path: Path) -> dict[str, Walk | None]:
    """The walks whose results a file has; the released code makes TT + 1 transitions."""
    walks = {}
    for tag, parts, steps in (found.groups() for found in filter(None, map(TAG.fullmatch, load(path)))):
        walks[tag] = (
            None if parts is None else Walk(alpha=0.99, temperature=0.01, parts=int(parts), steps=int(steps) + 1)
        )
    return walks


@lru_cache(maxsize=1)
def rba(width: int) -> networks.Network:
    """The published network of that width, with weights by the rule."""
    network = {128: networks.RbASwinB, 192: networks.RbASwinL}[width]()
    fill(network.model)
    return network.eval()


def width_of(arrays: dict[str, np.ndarray]) -> int:
    """Channels of the first stage of the backbone, of which a file has every n-th."""
    name = next(name for name in arrays if name.startswith("res2_ch_stride"))
    return arrays[name].shape[1] * int(SUFFIX.search(name)[2])


@pytest.mark.parametrize(
    ("path", "tag"),
    [pytest.param(path, tag, id=f"{path.stem}-{tag}") for path in golden_files(RBA) for tag in tags(path)]
    or [pytest.param(None, None, marks=missing(RBA))],
)
def test_rba(path, tag):
    arrays, walk = load(path), tags(path)[tag]
    analysis = Scorer(rba(width_of(arrays)), walk=walk).analyze(torch.from_numpy(arrays["image"]))
    prediction = analysis.walked
    results = {
        "pred_logits": prediction.logits.class_logits,
        "pred_masks": prediction.logits.mask_logits,
        "rba": prediction.score("rba"),
    }
    if walk is None:
        results["semantic_logits"] = prediction.full_logits
    else:
        results["walked_features"] = walk(analysis.embedded.embedding_map)
    compared = set()
    for name, wanted in arrays.items():
        if name.startswith(f"{tag}_"):
            quantity = SUFFIX.sub("", name.removeprefix(f"{tag}_"))
            key = {"semantic_logits": "L", "walked_features": "mask_features_used"}.get(quantity, quantity)
            scale = scale_of(path, key, wanted, f"{path.stem}_{tag}")
            check(results[quantity], name, wanted, scale, part=1e-4 if walk is None else 2e-4, score=quantity == "rba")
            compared.add(quantity)
    assert compared == results.keys()
    assert torch.equal(prediction.segmentation, prediction.full_logits.argmax(0))


@golden(RBA)
def test_rba_backbone_and_embedding_map(path):
    arrays = load(path)
    network = rba(width_of(arrays))
    with torch.inference_mode():
        images = network.preprocess(torch.from_numpy(arrays["image"])[None])
        assert images.shape[2:] == tuple(-(-side // 32) * 32 for side in arrays["image"].shape[1:])
        features = network.model.model.pixel_level_module.encoder(images).feature_maps
        embedding_map, context = network.encode(images)
        decoded = network.model.model.transformer_module(context, embedding_map)
        first = network.model.class_predictor(decoded.intermediate_hidden_states[0].transpose(0, 1))
    results = {f"res{level}": feature for level, feature in enumerate(features, 2)}
    results |= {"mask_features": embedding_map, "aux0_pred_logits": first}
    for quantity, got in results.items():
        name = next(name for name in arrays if SUFFIX.sub("", name) == quantity)
        key = {"aux0_pred_logits": "aux0_logits"}.get(quantity, quantity)
        check(got, name, arrays[name], scale_of(path, key, arrays[name], f"{path.stem}_plain"))


# Mask2Anomaly and its baseline: pixel decoder and transformer decoder

HEADS = "mask2former_heads"


def positions_in_float32(self, shape, device, dtype, mask=None):
    """Position embeddings as the originals compute them, whatever the network's dtype."""
    settings = self.num_position_features, self.normalize, self.scale, self.temperature, mask
    return self.build_sine_position_embedding(shape, device, torch.float32, *settings).to(dtype)


def features_of(path: Path) -> list[np.ndarray]:
    """Random features of the four stages, drawn from the seed ``(s = ...)`` of the README."""
    arrays = load(path)
    seed = re.search(rf"`{re.escape(path.stem)}` \(s = (\d+)\)", readme(HEADS))
    assert seed, f"the README gives no seed for {path.name}"
    height, width = next(array.shape[2:] for name, array in arrays.items() if name.startswith("mask_features"))
    features = [random_normal(int(seed[1]) + i, (1, 256 * 2**i, height // 2**i, width // 2**i)) for i in range(4)]
    np.testing.assert_allclose([np.abs(f.astype(np.float64)).sum() for f in features], arrays["input_abs_sums"])
    return features


@lru_cache(maxsize=2)
def head(manifest: Path) -> torch.nn.Module:
    return fill(build(json.loads(manifest.read_text())))


@golden(HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_heads(path, dtype, monkeypatch):
    arrays = load(path)
    # A file's name begins with that of its manifest.
    model = head(next(manifest for manifest in MANIFESTS if path.stem.startswith(manifest.stem))).to(dtype)
    features = features_of(path)
    if dtype == torch.float64:
        monkeypatch.setattr(Positions, "forward", positions_in_float32)
    with torch.inference_mode():
        pixels = model.model.pixel_level_module.decoder([torch.from_numpy(f).to(dtype) for f in features])
        decoded = model.model.transformer_module(pixels.multi_scale_features, pixels.mask_features)
        logits = [model.class_predictor(hidden.transpose(0, 1)) for hidden in decoded.intermediate_hidden_states]
    if dtype == torch.float64:
        np.testing.assert_allclose(logits[-1].numpy(), arrays["pred_logits_f64"], rtol=1e-9, atol=1e-9)
        return
    results = {
        "mask_features": pixels.mask_features,
        "pred_logits": logits[-1],
        "pred_masks": decoded.masks_queries_logits[-1],
        **{f"ms{level}": feature for level, feature in enumerate(pixels.multi_scale_features)},
        **{f"aux{layer}_logits": hidden for layer, hidden in enumerate(logits)},
    }
    for name, wanted in arrays.items():
        if name != "input_abs_sums" and not name.endswith("_f64"):
            quantity = re.sub(r"(ms\d)_res\d", r"\1", SUFFIX.sub("", name))
            check(results[quantity], name, wanted, scale_of(path, quantity, wanted))
