"""Mask networks against the golden files of the original implementations, with weights by their rule."""

from __future__ import annotations

import json
import re
from functools import cache

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("scipy")

from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding as Positions

from python_tests.networks.weight_rule import weights_by_rule
from python_tests.places import CONFORMANCE
from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.networks import detectron2, mask2former_model
from rwpm_fast.networks.checkpoint import load_state

pytestmark = pytest.mark.skipif(
    not (CONFORMANCE / "mask2former_rba").is_dir(),
    reason=f"no conformance files in {CONFORMANCE / 'mask2former_rba'}; set RWPM_CONFORMANCE to their root",
)


def manifest(name: str) -> dict[str, list]:
    return json.loads((CONFORMANCE / "manifests" / f"{name}.json").read_text())


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Weights by the rule under detectron2's keys, loaded as a checkpoint is."""
    view = detectron2.Detectron2State(model)
    load_state(view, weights_by_rule(view.state_dict()), name="network", path="rule")
    return model.eval()


@cache
def rba() -> networks.RbASwinB:
    network = networks.RbASwinB()
    fill(network.model)
    return network.eval()


SWIN_B = {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "window": 12}
MODELS = {
    "rba_mask2former_swin_b_1dl": networks.RbASwinB.build,
    "rba_mask2former_swin_l_1dl": networks.RbASwinL.build,
    "mask2former_swin_b_9dl_3levels": lambda: mask2former_model.mask2former(
        mask2former_model.swin(**SWIN_B), classes=19, decoder_layers=9
    ),
    "mask2anomaly_gma_head": networks.Mask2Anomaly.build,
    "mask2former_standard_head": lambda: mask2former_model.mask2former(
        mask2former_model.resnet(), classes=19, decoder_layers=9
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_keys_and_shapes_are_those_of_the_manifest(name):
    with torch.device("meta"):  # shapes without weights
        model = MODELS[name]()
    got = {
        key: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for key, tensor in detectron2.Detectron2State(model).state_dict().items()
        if not (name.endswith("_head") and key.startswith("backbone."))
    }
    wanted = manifest(name)
    assert got == detectron2.used(wanted)
    unused = {re.sub(r"\d+", "N", key) for key in wanted.keys() - got.keys()}
    assert unused <= {
        "criterion.empty_weight",
        "backbone.layers.N.blocks.N.attn.relative_position_index",
        "sem_seg_head.predictor.transformer_cross_attention_layers.N.fusion_layer.weight",
        "sem_seg_head.predictor.transformer_cross_attention_layers.N.fusion_layer.bias",
    }


SUFFIX = re.compile(r"(_ch)?(?:_query)?_stride(\d+)$")


def check(got: torch.Tensor, name: str, wanted: np.ndarray, scale: dict, *, part: float = 1e-4, score=False) -> None:
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


RBA = "rba_swin_b_1dl_90x150"
TAGS = {
    "plain": None,
    "rwpm_n2_TT5": Walk(alpha=0.99, steps=6, temperature=0.01, parts=2),
    "rwpm_n1_TT20": Walk(alpha=0.99, steps=21, temperature=0.01),
}


@pytest.mark.parametrize("tag", TAGS)
def test_rba(tag):
    with np.load(CONFORMANCE / "mask2former_rba" / f"{RBA}.npz") as file:
        arrays = dict(file)
    scales = json.loads((CONFORMANCE / "numeric_scale.json").read_text())["mask2former_rba"][f"{RBA}_{tag}"]
    analysis = Scorer(rba(), walk=TAGS[tag]).analyze(torch.from_numpy(arrays["image"]))
    prediction = analysis.walked
    tolerance = 1e-4 if tag == "plain" else 2e-4
    results = {
        "pred_logits": prediction.logits.class_logits,
        "pred_masks": prediction.logits.mask_logits,
        "rba": prediction.score("rba"),
    }
    if tag == "plain":
        results["semantic_logits"] = prediction.full_logits
    else:
        results["walked_features"] = TAGS[tag](analysis.embedded.embedding_map)
    compared = set()
    for name, wanted in arrays.items():
        if name.startswith(f"{tag}_"):
            quantity = SUFFIX.sub("", name.removeprefix(f"{tag}_"))
            scale = scales[{"semantic_logits": "L", "walked_features": "mask_features_used"}.get(quantity, quantity)]
            check(results[quantity], name, wanted, scale, part=tolerance, score=quantity == "rba")
            compared.add(quantity)
    assert compared == results.keys()
    assert torch.equal(prediction.segmentation, prediction.full_logits.argmax(0))


def test_rba_backbone_and_embedding_map():
    with np.load(CONFORMANCE / "mask2former_rba" / f"{RBA}.npz") as file:
        arrays = dict(file)
    scales = json.loads((CONFORMANCE / "numeric_scale.json").read_text())["mask2former_rba"][f"{RBA}_plain"]
    network = rba()
    with torch.inference_mode():
        images = network.preprocess(torch.from_numpy(arrays["image"])[None])
        assert images.shape == (1, 3, 96, 160)
        features = network.model.model.pixel_level_module.encoder(images).feature_maps
        embedding_map, context = network.encode(images)
        decoded = network.model.model.transformer_module(context, embedding_map)
        first = network.model.class_predictor(decoded.intermediate_hidden_states[0].transpose(0, 1))
    for level, feature in enumerate(features):
        check(feature, "_ch_stride16", arrays[f"res{level + 2}_ch_stride16"], scales[f"res{level + 2}"])
    check(embedding_map, "_ch_stride8", arrays["mask_features_ch_stride8"], scales["mask_features"])
    check(first, "", arrays["aux0_pred_logits"], scales["aux0_logits"])


def positions_in_float32(self, shape, device, dtype, mask=None):
    """Position embeddings as the originals compute them, whatever the network's dtype."""
    settings = self.num_position_features, self.normalize, self.scale, self.temperature, mask
    return self.build_sine_position_embedding(shape, device, torch.float32, *settings).to(dtype)


HEADS = {"mask2anomaly_gma_head": 721, "mask2former_standard_head": 731}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_heads(name, dtype, monkeypatch):
    stem = f"{name}_96x160"
    with np.load(CONFORMANCE / "mask2former_heads" / f"{stem}.npz") as file:
        arrays = dict(file)
    scales = json.loads((CONFORMANCE / "numeric_scale.json").read_text())["mask2former_heads"][stem]
    model = _head(name).to(dtype)
    features = [
        np.random.Generator(np.random.PCG64(HEADS[name] + i))
        .standard_normal((1, 256 * 2**i, 24 // 2**i, 40 // 2**i))
        .astype(np.float32)
        for i in range(4)
    ]
    np.testing.assert_allclose([np.abs(f.astype(np.float64)).sum() for f in features], arrays["input_abs_sums"])
    if dtype == torch.float64:
        monkeypatch.setattr(Positions, "forward", positions_in_float32)
    with torch.inference_mode():
        pixels = model.model.pixel_level_module.decoder([torch.from_numpy(f).to(dtype) for f in features])
        decoded = model.model.transformer_module(pixels.multi_scale_features, pixels.mask_features)
        logits = [model.class_predictor(hidden.transpose(0, 1)) for hidden in decoded.intermediate_hidden_states]
    if dtype == torch.float64:
        np.testing.assert_allclose(logits[-1].numpy(), arrays["pred_logits_f64"], rtol=1e-9, atol=1e-9)
        return
    check(pixels.mask_features, "_ch_stride8", arrays["mask_features_ch_stride8"], scales["mask_features"])
    for level, (stage, step) in enumerate((("res5", 8), ("res4", 8), ("res3", 16))):
        wanted = arrays[f"ms{level}_{stage}_ch_stride{step}"]
        check(pixels.multi_scale_features[level], f"_ch_stride{step}", wanted, scales[f"ms{level}"])
    check(logits[-1], "", arrays["pred_logits"], scales["pred_logits"])
    masks = decoded.masks_queries_logits[-1]
    check(masks, "_query_stride2", arrays["pred_masks_query_stride2"], scales["pred_masks"])
    for i in (0, 1, 4):
        check(logits[i], "", arrays[f"aux{i}_logits"], scales[f"aux{i}_logits"])


@cache
def _head(name: str) -> torch.nn.Module:
    return fill(MODELS[name]())
