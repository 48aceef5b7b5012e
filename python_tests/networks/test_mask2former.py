"""Mask networks of a few thousand random weights, which need no files."""

from __future__ import annotations

import copy
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("transformers")
pytest.importorskip("scipy")

from rwpm_fast import Scorer, Walk, networks, scores
from rwpm_fast.cli import main
from rwpm_fast.networks import MaskLogits, mask2former_model
from rwpm_fast.networks.detectron2 import Detectron2State

SMALL = {
    "feature_size": 64,  # twice the groups of its norms, or a stride-32 map of one pixel has no variance
    "mask_feature_size": 64,
    "hidden_dim": 64,
    "encoder_feedforward_dim": 32,
    "dim_feedforward": 32,
    "num_attention_heads": 4,
    "num_queries": 9,
    "encoder_layers": 2,
}
WALK = Walk(steps=8, temperature=0.05)


def filled(model: nn.Module) -> nn.Module:
    """Random weights that keep activations of order 1; the usual ones make all pixels alike."""
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.dim() > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
    return model


def swin(decoder_layers: int = 2, levels: int = 1) -> nn.Module:
    backbone = mask2former_model.swin(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=4)
    settings = {"classes": 19, "decoder_layers": decoder_layers, "levels": levels}
    return filled(mask2former_model.mask2former(backbone, **settings, **SMALL))


class SmallRbA(networks.RbASwinB):
    build = staticmethod(swin)


class SmallMask2Anomaly(networks.Mask2Anomaly):
    shorter_side = 64
    longest_side = 96

    @staticmethod
    def build():
        backbone = mask2former_model.resnet(depths=(1, 1, 1, 1), width=8)
        model = mask2former_model.mask2former(
            backbone, classes=19, decoder_layers=4, global_masked_attention=True, **SMALL
        )
        return filled(model)


def standard() -> networks.Mask2Former:
    return networks.Mask2Former(swin(decoder_layers=4, levels=3), classes=networks.CITYSCAPES_CLASSES)


NETWORKS = {"rba": SmallRbA, "mask2anomaly": SmallMask2Anomaly, "standard": standard}


@pytest.fixture(params=NETWORKS)
def network(request) -> networks.Mask2Former:
    torch.manual_seed(0)  # of the biases
    return NETWORKS[request.param]().eval()


@pytest.fixture
def rba() -> SmallRbA:
    torch.manual_seed(0)
    return SmallRbA().eval()


def photos(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def close(got, wanted, tolerance: float = 1e-4) -> None:
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * b.abs().max().item())


def test_contract(network):
    assert network.mask_head and not network.linear_head
    assert network.classes == networks.CITYSCAPES_CLASSES
    assert network.default_score in scores.SCORES
    assert networks.NETWORKS[network.name] in type(network).__mro__
    with torch.inference_mode():
        images = network.preprocess(photos(1, 3, 40, 70))
        assert tuple(images.shape[-2:]) == network.padded_size((40, 70))
        embedding_map, context = network.encode(images)
        logits = network.decode(embedding_map, context)
    assert embedding_map.shape == (1, 64, images.shape[-2] // network.stride, images.shape[-1] // network.stride)
    assert isinstance(logits, MaskLogits)
    assert logits.class_logits.shape == (1, 9, 20)
    assert logits.mask_logits.shape == (1, 9, *embedding_map.shape[-2:])


def test_is_the_model_of_transformers(rba):
    """Hooked at mask_projection as released, the model's own forward gives what the scorer gives."""
    photo = photos(3, 64, 96)
    analysis = Scorer(rba, walk=WALK).analyze(photo)
    hook = rba.model.model.pixel_level_module.decoder.mask_projection.register_forward_hook(lambda *x: WALK(x[2]))
    with torch.inference_mode():
        hooked = rba.model(rba.preprocess(photo[None]))
        hook.remove()
        plain = rba.model(rba.preprocess(photo[None]))
    close(analysis.walked.logits, (hooked.class_queries_logits, hooked.masks_queries_logits))
    close(analysis.plain.logits, (plain.class_queries_logits, plain.masks_queries_logits))
    assert (hooked.class_queries_logits - plain.class_queries_logits).abs().max() > 1e-2


def test_batch_of_two_is_two_of_one(network):
    pair = photos(2, 3, 50, 75)
    with torch.inference_mode():
        together = network(network.preprocess(pair))
        apart = [network(network.preprocess(photo[None])) for photo in pair]
    close(together, map(torch.cat, zip(*apart, strict=True)))


@pytest.mark.parametrize("size", [(61, 93), (32, 64), (7, 40), (1, 1)])
def test_any_photo_size(network, size):
    scored = Scorer(network, walk=WALK)(photos(3, *size))
    assert scored.score.shape == scored.segmentation.shape == size
    assert scored.score.dtype == torch.float32 and scored.score.isfinite().all()
    assert scored.segmentation.max() < 19
    assert scored.map_size == tuple(side // 4 for side in network.padded_size(size))


def test_channels_last(network):
    images = network.preprocess(photos(1, 3, 64, 96))
    with torch.inference_mode():
        wanted = network(images)
        got = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    close(got, wanted)


class Recorder(nn.Module):
    """A walk that keeps what it is given."""

    parts = 1

    def forward(self, embedding_map, value_map=None, mask=None):
        self.seen = embedding_map, value_map, mask
        return WALK(embedding_map, value_map, mask)


@pytest.mark.parametrize("values", ["embeddings", "masks"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_network_walks_in_float32(network, values, dtype):
    photo = photos(3, 64, 96)
    exact = Scorer(network, walk=WALK, walk_values=values).analyze(photo)
    recorder = Recorder()
    half = Scorer(copy.deepcopy(network).to(dtype), walk=recorder, walk_values=values).analyze(photo)
    assert half.embedding_map.dtype == dtype
    embeddings, masks, _ = recorder.seen
    assert embeddings.dtype == torch.float32
    assert masks is None if values == "embeddings" else masks.dtype == torch.float32
    got, wanted = half.walked.score("rba"), exact.walked.score("rba")
    assert got.dtype == torch.float32
    off = (half.embedding_map.float() - exact.embedding_map).norm() / exact.embedding_map.norm()
    assert off < (5e-3 if dtype == torch.float16 else 3e-2)
    # Behind the map a mask logit near 0 may fall on the other side, and with it a pixel out of an attention mask: with
    # random weights that alone moves a score by up to a tenth, one seed as another.
    assert (got - wanted).abs().mean() < 0.2 * wanted.abs().mean()


def test_walked_masks_are_linear_in_the_map(rba):
    """Queries fixed, the masks of the walked map are the walked masks."""
    photo = photos(3, 64, 96)
    masks = Scorer(rba, walk=WALK, walk_values="masks").analyze(photo)
    embeddings = Scorer(rba, walk=WALK, walk_values="embeddings").analyze(photo)
    auto = Scorer(rba, walk=WALK).analyze(photo)
    embedded = masks.embedded
    with torch.inference_mode():
        decoder = rba.model.model.transformer_module
        hidden = decoder(embedded.context, embedded.embedding_map).intermediate_hidden_states[-1]
        queries = decoder.decoder.mask_predictor.mask_embedder(hidden.transpose(0, 1))
        expected = torch.einsum("bqc,bchw->bqhw", queries, WALK(embedded.embedding_map))
    close([masks.walked.logits.mask_logits], [expected])
    assert torch.equal(masks.walked.logits.class_logits, masks.plain.logits.class_logits)
    assert torch.equal(auto.walked.logits.mask_logits, embeddings.walked.logits.mask_logits)
    assert (embeddings.walked.logits.mask_logits - expected).abs().max() > 1e-2


def test_without_decoder_layers_masks_and_embeddings_walk_alike():
    network = networks.Mask2Former(swin(decoder_layers=0))
    photo = photos(3, 64, 96)
    both = [Scorer(network, walk=WALK, walk_values=values).analyze(photo) for values in ("masks", "embeddings")]
    close(*(analysis.walked.logits for analysis in both))
    assert (both[0].plain.logits.mask_logits - both[0].walked.logits.mask_logits).abs().max() > 1e-2


def test_padding_walks_along_unless_left_out(rba):
    photo = photos(3, 50, 90)  # padded to 64 x 96
    maps = {}
    for padding in (True, False):
        recorder = Recorder()
        scorer = Scorer(rba, walk=recorder, walk_padding=padding)
        maps[padding] = scorer(photo).score
        mask = recorder.seen[2]
        assert (mask is None) == padding
    assert mask.shape == (1, 16, 24)
    assert mask[0, :13, :23].all() and not mask[0, 13:].any() and not mask[0, :, 23:].any()
    assert (maps[True] - maps[False]).abs().max() > 1e-3
    scorer = Scorer(rba, walk=recorder, walk_padding=False)
    scorer(photos(3, 64, 96))
    assert recorder.seen[2] is None


def test_mask_of_the_photo_reaches_the_map_of_both_views():
    network, recorder = SmallMask2Anomaly().eval(), Recorder()
    mask = np.ones((32, 40), bool)
    mask[:, :8] = False
    Scorer(network, walk=recorder)(photos(3, 32, 40), mask)  # shown at 64 x 80, padded to 64 x 96
    plain, mirrored = recorder.seen[2]
    assert plain.shape == (16, 24)
    assert not plain[:, :4].any() and plain[:, 4:].all()
    assert not mirrored[:, 16:20].any() and mirrored[:, :16].all() and mirrored[:, 20:].all()


def test_mask2anomaly_averages_both_views():
    network = SmallMask2Anomaly().eval()
    photo = photos(3, 50, 60)
    got = Scorer(network, walk=WALK).analyze(photo).walked
    assert Scorer(network).score == "mask2anomaly"
    network.mirrored = False
    views = [Scorer(network, walk=WALK).analyze(view).walked for view in (photo, photo.flip(-1))]
    for name in ("mask2anomaly", "rba", "energy"):
        plain, mirrored = (view.score(name) for view in views)
        torch.testing.assert_close(got.score(name), (plain + mirrored.flip(-1)) / 2, rtol=0, atol=1e-4)
        assert (plain - mirrored.flip(-1)).abs().max() > 1e-3


def test_mask2anomaly_resizes_as_detectron2():
    network = networks.Mask2Anomaly
    sizes = {
        (720, 1280): (1024, 1820),
        (1024, 2048): (1024, 2048),
        (500, 2000): (512, 2048),
        (1080, 1920): (1024, 1820),
    }
    for size, wanted in sizes.items():
        assert network.input_size(network, size) == wanted


def test_preprocessing(rba):
    photo = photos(1, 3, 40, 70)
    images = rba.preprocess(photo)
    assert images.shape == (1, 3, 64, 96)
    wanted = (photo[0, :, 3, 5] - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    torch.testing.assert_close(images[0, :, 3, 5], wanted)
    assert not images[:, :, 40:].any() and not images[:, :, :, 70:].any()
    assert torch.equal(images, rba.preprocess(photo.float()))


@pytest.mark.parametrize("size", [(96, 150), (30, 45)], ids=["smaller", "larger"])
def test_resized_photo_is_that_of_pillow(size):
    image = pytest.importorskip("PIL.Image")
    network = SmallMask2Anomaly()
    photo = photos(1, 3, *size)
    height, width = network.input_size(size)
    assert (height, width) != size
    resized = image.fromarray(photo[0].permute(1, 2, 0).numpy()).resize((width, height), image.BILINEAR)
    got = network.preprocess(photo)[0, :, :height, :width]
    got = got * torch.tensor(network.pixel_std).view(3, 1, 1) + torch.tensor(network.pixel_mean).view(3, 1, 1)
    error = (got.permute(1, 2, 0) - torch.from_numpy(np.array(resized)).float()).abs()
    assert error.max() < 1.01
    assert (error > 0.5).float().mean() < 0.01


def checkpoint(network: networks.Mask2Former) -> dict[str, Tensor]:
    unused = {
        "criterion.empty_weight": torch.ones(20),
        "backbone.layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64),
        "sem_seg_head.predictor.transformer_cross_attention_layers.0.fusion_layer.weight": torch.zeros(9, 18, 1, 1),
    }
    return {name: tensor.clone() for name, tensor in Detectron2State(network.model).state_dict().items()} | unused


def test_resnet_computes_what_its_names_in_detectron2_say():
    """Bottlenecks written out: conv1 1 x 1, conv2 3 x 3 with the stride, conv3 1 x 1, a shortcut where sizes change."""
    network = SmallMask2Anomaly().eval()
    state = Detectron2State(network.model).state_dict()
    for name, tensor in state.items():
        if name.startswith("backbone.") and ".norm." in name and tensor.is_floating_point():
            tensor.copy_(1 + 0.1 * torch.rand(tensor.shape))  # the state's own memory

    def conv(x, name, stride=1):
        weight = state[f"backbone.{name}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        entries = (
            state[f"backbone.{name}.norm.{entry}"] for entry in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, *entries)

    x = images = network.preprocess(photos(1, 3, 64, 96))
    x = F.max_pool2d(conv(x, "stem.conv1", 2).relu(), 3, stride=2, padding=1)
    wanted = []
    for stage in (2, 3, 4, 5):
        block, stride = f"res{stage}.0", 1 if stage == 2 else 2
        y = conv(conv(conv(x, f"{block}.conv1").relu(), f"{block}.conv2", stride).relu(), f"{block}.conv3")
        x = (y + conv(x, f"{block}.shortcut", stride)).relu()
        wanted.append(x)
    with torch.inference_mode():
        close(network.model.model.pixel_level_module.encoder(images).feature_maps, wanted)


def saved(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    path = tmp_path / "model_final.pth"
    torch.save({"model": state, "iteration": 7, "optimizer": {"state": {}}}, path)
    return path


@pytest.mark.parametrize("kind", [SmallRbA, SmallMask2Anomaly])
def test_loads_a_detectron2_checkpoint(kind, tmp_path):
    original = kind().eval()
    for tensor in original.parameters():
        tensor.detach().add_(0.01 * torch.randn(tensor.shape))
    loaded = kind.load(saved(tmp_path, checkpoint(original)))
    assert not loaded.training
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    images = original.preprocess(photos(1, 3, 64, 96))
    with torch.inference_mode():
        for got, wanted in zip(loaded(images), original(images), strict=True):
            assert torch.equal(got, wanted)


def test_frozen_batch_norm_counts_no_batches(tmp_path):
    state = checkpoint(SmallMask2Anomaly())
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert counters
    for name in counters:
        del state[name]
    SmallMask2Anomaly.load(saved(tmp_path, state))


def test_unfit_checkpoints_are_refused(tmp_path, rba):
    state = checkpoint(rba)
    qkv = "backbone.layers.0.blocks.0.attn.qkv.weight"
    del state[qkv]
    with pytest.raises(ValueError, match=rf"does not fit rba_swin_b: missing: {qkv}$"):
        SmallRbA.load(saved(tmp_path, state))
    state[qkv] = torch.zeros(8, 8)
    with pytest.raises(ValueError, match=rf"mismatched: {qkv} has shape \[8, 8\], expected \[24, 8\]$"):
        SmallRbA.load(saved(tmp_path, state))
    state[qkv] = torch.zeros(24, 8)
    state["sem_seg_head.predictor.ood_pred.weight"] = torch.zeros(2, 8)
    with pytest.raises(ValueError, match=r"unexpected: sem_seg_head\.predictor\.ood_pred\.weight$"):
        SmallRbA.load(saved(tmp_path, state))


def test_checkpoint_of_the_wrong_method(tmp_path, rba):
    text = r"another network: it has 86 of the \d+ entries of "
    with pytest.raises(ValueError, match=text + r"rba_swin_b, and besides backbone\.stem\."):
        SmallRbA.load(saved(tmp_path, checkpoint(SmallMask2Anomaly())))
    with pytest.raises(ValueError, match=text + r"mask2anomaly, and besides backbone\.patch_embed\."):
        SmallMask2Anomaly.load(saved(tmp_path, checkpoint(rba)))
    standard_model = checkpoint(networks.Mask2Former(swin(decoder_layers=2, levels=3)))
    text = r"does not fit rba_swin_b: missing: .*adapter_2.*; unexpected: .*input_proj\.1"
    with pytest.raises(ValueError, match=text):
        SmallRbA.load(saved(tmp_path, standard_model))
    with pytest.raises(ValueError, match="weights of another network"):
        SmallRbA.load(saved(tmp_path, {"branch1.final.6.weight": torch.zeros(20, 256, 1, 1)}))


def test_loads_a_folder_of_transformers(tmp_path):
    original = standard().eval()
    original.model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    loaded = networks.load("mask2former", tmp_path)
    assert len(loaded.classes) == 19
    assert loaded.pixel_mean == (127.5,) * 3
    assert loaded.pixel_std == (63.75,) * 3
    images = original.preprocess(photos(1, 3, 64, 96))
    with torch.inference_mode():
        close(loaded(images), original(images))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:999])
    with pytest.raises(ValueError, match=r"expected a safetensors file, got .*model\.safetensors, which is none or is"):
        networks.load("mask2former", tmp_path)


def test_command_line(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    standard().model.save_pretrained(tmp_path / "model")
    pixels = photos(50, 70, 3).numpy()
    image.fromarray(pixels).save(tmp_path / "street.png")
    network = ["--network", "mask2former", "--weights", str(tmp_path / "model"), "--steps", "2"]
    for values in ("masks", "embeddings"):
        given = ["score", str(tmp_path / "street.png"), *network, "--walk-values", values, "--no-panel"]
        assert main([*given, "--out", str(tmp_path / values)]) == 0, capsys.readouterr().err
        walk = Walk(steps=2, tolerance=1e-4)
        expected = Scorer(networks.load("mask2former", tmp_path / "model"), "rba", walk, walk_values=values)(pixels)
        np.testing.assert_array_equal(np.load(tmp_path / values / "street.npy"), expected.score.numpy())
    assert main([*given, "--out", str(tmp_path), "--walk-values", "logits"]) == 2
    assert "linear head, which mask2former has not" in capsys.readouterr().err


@pytest.fixture
def padded_photo(tmp_path, capsys):
    """Run a sub-command with a small network on photos/0001.png, 50 x 70 pixels of 64 x 96, and its labels."""
    image = pytest.importorskip("PIL.Image")
    standard().model.save_pretrained(tmp_path / "model")
    for folder, pixels in (("photos", photos(50, 70, 3)), ("labels", photos(50, 70) % 2)):
        (tmp_path / folder).mkdir()
        image.fromarray(pixels.numpy()).save(tmp_path / folder / "0001.png")

    def run(*words):
        capsys.readouterr()
        words = (*words, "--network", "mask2former", "--weights", tmp_path / "model", "--steps", 2)
        return main([str(word) for word in words]), capsys.readouterr().err

    return run


WITH_AND_WITHOUT = {True: (), False: ("--no-walk-padding",)}


def test_padding_is_left_out_of_scores_by_command(tmp_path, padded_photo):
    for padding, words in WITH_AND_WITHOUT.items():
        out = tmp_path / str(padding)
        assert padded_photo("score", tmp_path / "photos", "--out", out, "--no-panel", *words)[0] == 0
        walk = Walk(steps=2, tolerance=1e-4)
        scorer = Scorer(networks.load("mask2former", tmp_path / "model"), walk=walk, walk_padding=padding)
        np.testing.assert_array_equal(np.load(out / "0001.npy"), scorer(photos(50, 70, 3).numpy()).score.numpy())
    with_it, without = (np.load(tmp_path / str(padding) / "0001.npy") for padding in WITH_AND_WITHOUT)
    assert np.abs(with_it - without).max() > 1e-3


@pytest.mark.parametrize("kind", [(), ("--table", "S4")], ids=["evaluate", "table"])
def test_padding_is_left_out_of_metrics_and_recorded(tmp_path, padded_photo, kind):
    made = {}
    for padding, words in WITH_AND_WITHOUT.items():
        file = tmp_path / f"{padding}.json"
        folders = ("--images", tmp_path / "photos", "--labels", tmp_path / "labels", "--cache", tmp_path / "cache")
        assert padded_photo("evaluate", *kind, *folders, "--scores", "rba", "--json", file, *words)[0] == 0
        made[padding] = json.loads(file.read_text())
        assert made[padding]["settings"]["walk_padding"] == padding
    rows = [[row["ap"] for row in made[padding]["lines"]] for padding in WITH_AND_WITHOUT]
    assert rows[0][0] == rows[1][0] and rows[0][1] != rows[1][1]  # without and with a walk


def test_submissions_of_another_padding_do_not_mix(tmp_path, padded_photo):
    (tmp_path / "photos" / "0001.png").rename(tmp_path / "photos" / "0001_x.png")
    words = ("submit", "fishyscapes", tmp_path / "photos", tmp_path / "out", "--score", "rba")
    assert padded_photo(*words, "--no-walk-padding")[0] == 0
    assert json.loads((tmp_path / "out" / "submission.json").read_text())["settings"]["walk_padding"] is False
    status, err = padded_photo(*words)
    assert status == 2 and "with another walk_padding" in err


def test_folder_that_does_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json, got facebook/mask2former"):
        networks.load("mask2former", "facebook/mask2former-swin-large-cityscapes-semantic")
    model = standard().model
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"encoder_layers": 3}))
    with pytest.raises(ValueError, match=r"does not fit its configuration: missing: .*encoder\.layers\.2"):
        networks.load("mask2former", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"mask_feature_size": 32}))
    with pytest.raises(ValueError, match=r"does not fit its configuration: .*mask_projection"):
        networks.load("mask2former", tmp_path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("entry", ["class_predictor.bias", "model.pixel_level_module.decoder.level_embed"])
def test_folder_with_a_weight_that_is_not_finite(tmp_path, value, entry):
    model = standard().model
    model.get_parameter(entry).data.view(-1)[1] = value
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"weights: {tmp_path} has entries that are not finite: {entry}$"):
        networks.load("mask2former", tmp_path)


def test_checkpoint_with_a_weight_that_is_not_finite(tmp_path, rba):
    state = checkpoint(rba)
    state["sem_seg_head.predictor.query_feat.weight"][2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"mismatched: sem_seg_head\.predictor\.query_feat\.weight has .* not finite$"):
        SmallRbA.load(saved(tmp_path, state))


@pytest.mark.parametrize("precision", [torch.float16, torch.float32, torch.float64])
def test_folder_keeps_its_precision(tmp_path, precision):
    standard().model.to(precision).save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in networks.load("mask2former", tmp_path).parameters()} == {precision}


def test_folder_with_several_files_of_weights(tmp_path):
    original = standard().eval()
    original.model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert not (tmp_path / "model.safetensors").exists()
    images = original.preprocess(photos(1, 3, 64, 96))
    with torch.inference_mode():
        close(networks.load("mask2former", tmp_path)(images), original(images))
    with pytest.raises(ValueError, match=r"weights_key: expected with a single file of weights, and .* has none"):
        networks.load("mask2former", tmp_path, weights_key="ema")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_mean": None}, r"expected three numbers as 'image_mean' in .*, got None$"),
        ({"image_mean": 0.5}, r"expected three numbers as 'image_mean' in .*, got 0\.5$"),
        ({"image_mean": [0.5, 0.5]}, r"expected three numbers as 'image_mean' in .*, got \[0\.5, 0\.5\]$"),
        (
            {"image_mean": [1, 1, "1"]},
            r"expected three numbers as 'image_mean' in .*, got \[1, 1, '1'\]$",
        ),
        ({"image_mean": [0.5, 0.5, float("nan")]}, r"expected three numbers as 'image_mean' in .*, got .*nan\]$"),
        ({"image_mean": {"r": 1}}, r"expected three numbers as 'image_mean' in .*, got \{'r': 1\}$"),
        ({"image_std": None}, r"expected three numbers above 0 as 'image_std' in .*, got None$"),
        ({"image_std": [0.2, 0.2, 0]}, r"expected three numbers above 0 as 'image_std' in .*, got \[0\.2, 0\.2, 0\]$"),
        ([0.5, 0.5, 0.5], r"expected a JSON object in .*preprocessor_config\.json, got list$"),
        (None, r"expected a JSON object in .*preprocessor_config\.json, got NoneType$"),
    ],
)
def test_preprocessor_of_a_folder_that_cannot_be_used(tmp_path, settings, message):
    standard().model.config.save_pretrained(tmp_path)  # told before weights are looked for
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        networks.load("mask2former", tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 20, 40])
def test_preprocessor_of_a_folder_that_is_cut_short(tmp_path, kept):
    standard().model.config.save_pretrained(tmp_path)
    text = json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    (tmp_path / "preprocessor_config.json").write_text(text[:kept])
    with pytest.raises(ValueError, match=r"expected JSON in .*preprocessor_config\.json, which is none or is cut"):
        networks.load("mask2former", tmp_path)


class OneChannelGroups(SmallRbA):
    """As many channels as groups in its norms, which a map of one pixel leaves nothing to normalize over."""

    @staticmethod
    def build() -> nn.Module:
        backbone = mask2former_model.swin(width=8, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), window=4)
        settings = {"classes": 19, "decoder_layers": 1, "levels": 1, **SMALL, "feature_size": 32}
        return filled(mask2former_model.mask2former(backbone, **settings))


@pytest.mark.parametrize("size", [(32, 32), (20, 30), (1, 1)])
def test_photos_too_small_for_the_norms(size):
    text = rf"photo: expected more than 32 pixels on a side, .*; got {size[0]} x {size[1]}$"
    with pytest.raises(ValueError, match=text):
        Scorer(OneChannelGroups().eval())(photos(3, *size))


@pytest.mark.parametrize("size", [(33, 1), (1, 33), (33, 33)])
def test_the_smallest_photos_for_the_norms(size):
    assert Scorer(OneChannelGroups().eval())(photos(3, *size)).score.isfinite().all()


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"need transformers and SciPy .*pip install 'rwpm-fast\[transformers\]'"):
        networks.RbASwinB()


@pytest.mark.parametrize(
    "root",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        OSError("libnvrtc.so.13: cannot open shared object file"),
        ModuleNotFoundError("No module named 'torchaudio'", name="torchaudio"),
    ],
    ids=["torchvision", "torchcodec", "missing"],
)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_root_of_a_failed_import_is_named(monkeypatch, root, depth):
    """transformers wraps what a library below it raises; the reader needs the innermost."""
    module = types.ModuleType("transformers")

    def fail(name: str):
        error = copy.copy(root)
        for _ in range(depth):
            outer = ModuleNotFoundError(f"Could not import module '{name}'. Are this object's requirements defined?")
            outer.__cause__ = error
            error = outer
        raise error

    module.__getattr__ = fail
    monkeypatch.setitem(sys.modules, "transformers", module)
    monkeypatch.delitem(sys.modules, "rwpm_fast.networks.mask2former_model")
    monkeypatch.delattr(networks, "mask2former_model")
    with pytest.raises(ImportError) as error:
        networks.RbASwinB()
    text = str(error.value)
    assert f"({type(root).__name__}: {root})" in text
    assert "uninstall it if it is torchvision" in text and "pip install" not in text


def test_calibrates_across_the_sub_maps_of_the_padded_map(rba):
    scorer = Scorer(rba, walk=Walk(steps=3, parts=4), calibrated=True)
    prediction = scorer.analyze(photos(3, 50, 90)).walked
    assert prediction.edges == ([0, 16, 32, 48, 50], [0, 24, 48, 72, 90])
    assert prediction.score("rba").shape == (50, 90)
