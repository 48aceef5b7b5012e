"""Agreement of two networks by class, on counts made by hand and on small random photos."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast import Scorer, networks
from rwpm_fast.io.images import find_images, read_image
from rwpm_fast.networks import CITYSCAPES_CLASSES, CompactNet
from rwpm_fast.training.agreement import Agreement, compare, main


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a.png", (48, 64)), ("b.png", (40, 72))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_figures_of_counts():
    agreement = Agreement(("road", "sky", "bus"), np.array([[5, 1, 0], [2, 2, 0], [0, 0, 0]]))
    assert agreement.share == 0.7
    assert agreement.teacher.tolist() == [0.6, 0.4, 0]
    np.testing.assert_allclose(agreement.iou, [5 / 8, 2 / 5, np.nan])


def test_counts_every_pixel_by_both_classes(photos, weights):
    teacher, network = networks.load("dabnet", weights), networks.load()
    expected = np.zeros((19, 19), int)
    for path in find_images([photos]):
        row, column = (Scorer(n, walk=None)(read_image(path)).segmentation for n in (teacher, network))
        np.add.at(expected, (row.numpy(), column.numpy()), 1)
    agreement = compare(network, teacher, find_images([photos]))
    assert (agreement.counts == expected).all() and agreement.counts.sum() == 48 * 64 + 40 * 72
    assert agreement.share < 1
    assert compare(teacher, teacher, find_images([photos])).share == 1


def test_other_classes_cannot_be_compared(photos, weights):
    network = CompactNet()
    network.classes = CITYSCAPES_CLASSES[::-1]
    with pytest.raises(ValueError, match=r"expected the 19 classes of the teacher dabnet.*compact"):
        compare(network, networks.load("dabnet", weights), find_images([photos]))


def test_command_prints_and_writes(capsys, tmp_path, photos, weights):
    torch.manual_seed(1)
    own = tmp_path / "own.npz"
    np.savez(own, **{name: t.numpy() for name, t in CompactNet().state_dict().items()})
    out = tmp_path / "agreement.json"
    assert main([*map(str, ("--photos", photos, "--teacher", weights, "--weights", own, "--json", out))]) == 0
    figures = json.loads(out.read_text())
    counts = np.array(figures["counts"])
    assert figures["photos"] == 2 and figures["share"] == counts.trace() / counts.sum()
    assert tuple(figures["classes"]) == CITYSCAPES_CLASSES
    unnamed = [name for i, name in enumerate(CITYSCAPES_CLASSES) if not counts[i].any() and not counts[:, i].any()]
    assert unnamed and all(figures["classes"][name] == {"teacher": 0.0, "iou": None} for name in unnamed)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"2 photos, the same class at {figures['share']:.1%} of the pixels"
    assert [line[:14].strip() for line in lines[2:]] == list(CITYSCAPES_CLASSES)
    assert all(line.endswith(" -") == (line[:14].strip() in unnamed) for line in lines[2:])


def test_command_names_what_is_wrong(capsys, tmp_path, photos, weights):
    for some in (("--photos", tmp_path / "nowhere"), ("--photos", photos, "--json", tmp_path)):
        assert main([*map(str, (*some, "--teacher", weights))]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("python -m rwpm_fast.training.agreement: ") and str(tmp_path) in err
