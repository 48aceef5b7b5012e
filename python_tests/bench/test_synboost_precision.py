"""What the variants of a narrow network cost and save, of a rendered scene; nothing is compiled for it."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench import synboost_precision
from bench.synboost_precision import VARIANTS, MeanColors
from rwpm_fast.data import folders
from rwpm_fast.scenes import render_holdout_scene
from rwpm_fast.synboost.dissimilarity import DissimilarityNet
from rwpm_fast.synboost.pipeline import SynBoost


def test_mean_colors(monkeypatch):
    monkeypatch.setattr(MeanColors, "size", (2, 4))
    class_map = torch.tensor([[[0, 0, 3, 3], [0, 255, 3, 3]]])
    photos = torch.zeros(1, 3, 2, 4)
    photos[..., 1] = 255
    photos[..., 2:] = 51
    painted = MeanColors()(class_map, photos)
    assert painted.shape == (1, 3, 2, 4)
    # Of road, one pixel of three is white; the white one without a class stays by itself.
    wanted = torch.tensor([[-1 / 3, -1 / 3, -0.6, -0.6], [-1 / 3, 1, -0.6, -0.6]])
    torch.testing.assert_close(painted, wanted.expand(1, 3, 2, 4))


def test_variants_take_turns(tmp_path, monkeypatch):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    photo, labels = render_holdout_scene(1000, size=(48, 96))
    labels[20:30, 20:40] = 1
    Image.fromarray(photo).save(tmp_path / "images/a.png")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "labels/a.png")
    turns, compiled = [], []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    judge = SynBoost.judge

    def noted(pipeline, comparison):
        turns.append((pipeline.dissimilarity, pipeline.precision))
        return judge(pipeline, comparison)

    monkeypatch.setattr(SynBoost, "judge", noted)
    torch.manual_seed(0)
    network = DissimilarityNet(width=4)
    found = synboost_precision.measure(network, folders(tmp_path / "images", tmp_path / "labels").frames, rounds=2)
    assert turns == 3 * turns[:5]  # the first time to warm up
    networks, precisions = zip(*turns[:5], strict=True)
    assert precisions == ("float32", "float32", "bfloat16", "float32", "bfloat16")
    assert [each is network for each in networks] == [True, False, True, False, True]
    assert compiled == list(networks[3:])
    for measured in found.values():
        assert len(measured.seconds) == 2 and min(measured.seconds) > 0
        assert measured.score.compute().positives == (labels == 1).sum()  # counted once, not by round
    exact, *others = (measured.score.compute().ap for measured in found.values())
    assert 0 < exact < 1 and others == pytest.approx(4 * [exact], abs=0.01)
    lines = synboost_precision.table(found).splitlines()
    assert lines[0] == "| variant | s | AP of the probability | AP of the score |"
    names = ["float32", "float32, channels-last", "bfloat16", "float32, channels-last, compiled", "bfloat16, compiled"]
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in names]


def test_channels_last_passes_through_the_network():
    torch.manual_seed(0)
    network = DissimilarityNet(width=4)
    ours = VARIANTS["float32, channels-last"].prepare(network)
    layouts = {}
    for name, module in ours.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(lambda _, inputs, result, name=name: layouts.update({name: result}))
    photos, semantic = torch.rand(1, 3, 32, 64), torch.rand(1, 19, 32, 64)
    with torch.no_grad():
        got, wanted = (each(photos, photos, semantic, photos) for each in (ours, network))
    torch.testing.assert_close(got, wanted)
    assert len(layouts) > 30
    last = torch.channels_last
    assert [name for name, result in layouts.items() if not result.is_contiguous(memory_format=last)] == []
    assert not network.decoder[0].second.weight.is_contiguous(memory_format=last)


def test_a_data_set_is_needed(capsys):
    assert synboost_precision.main([]) == 2
    assert "--root: expected the folder of a data set" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--photos", "--rounds"])
def test_at_least_one(option, tmp_path, capsys):
    assert synboost_precision.main(["--root", str(tmp_path), option, "0"]) == 2
    assert f"{option}: expected 1 or more, got 0" in capsys.readouterr().err
