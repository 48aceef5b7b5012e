"""What bfloat16 costs and saves, of a narrow network and a rendered scene."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench import synboost_precision
from bench.synboost_precision import MeanColors
from rwpm_fast.data import folders
from rwpm_fast.scenes import render_holdout_scene
from rwpm_fast.synboost.dissimilarity import DissimilarityNet


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


def test_both_precisions_are_measured(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    photo, labels = render_holdout_scene(1000, size=(48, 96))
    labels[20:30, 20:40] = 1
    Image.fromarray(photo).save(tmp_path / "images/a.png")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "labels/a.png")
    torch.manual_seed(0)
    found = synboost_precision.measure(
        DissimilarityNet(width=4), folders(tmp_path / "images", tmp_path / "labels").frames
    )
    assert list(found) == ["float32", "bfloat16"]
    for measured in found.values():
        assert len(measured.seconds) == 1 and measured.seconds[0] > 0
    exact, fast = (measured.score.compute().ap for measured in found.values())
    assert 0 < exact < 1 and exact == pytest.approx(fast, abs=0.01)
    lines = synboost_precision.table(found).splitlines()
    assert lines[0] == "| precision | s | AP of the probability | AP of the score |"
    assert lines[2].startswith("| float32 | ") and lines[3].startswith("| bfloat16 | ")


def test_a_data_set_is_needed(capsys):
    assert synboost_precision.main([]) == 2
    assert "--root: expected the folder of a data set" in capsys.readouterr().err
