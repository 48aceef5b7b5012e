"""The code that makes the compact network's weights, on pictures too small to learn much of."""

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast.demo.labels import EGO, UNKNOWN
from rwpm_fast.demo.world import paint_scene
from rwpm_fast.networks import DABNet
from rwpm_fast.networks.compact import CompactNet
from training.scenes import render
from training.teacher import batches, look
from training.train import train


@pytest.fixture
def lessons(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    torch.manual_seed(0)
    photos = look(DABNet().eval(), [tmp_path], sizes=(1.0,), note=lambda text: None)
    return photos + render(1, rng, (64, 96), note=lambda text: None)


def test_lessons_belong_to_their_pictures(lessons):
    assert [lesson.picture.shape for lesson in lessons] == [(3, 64, 96)] * 3
    assert lessons[0].logits.shape == (19, 8, 12) and lessons[2].classes.shape == (8, 12)
    assert not torch.equal(lessons[0].picture, lessons[1].picture)  # another light
    pictures, said = next(batches(lessons, 8, 32, 64, seed=0))
    assert pictures.shape == (8, 3, 32, 64)
    assert all((lesson.logits if lesson.classes is None else lesson.classes).shape[-2:] == (4, 8) for lesson in said)


def test_scenes_teach_classes_alone():
    """Neither what no class is for nor our own car, which both are in these scenes."""
    size, count = (64, 96), 8
    rng = np.random.default_rng(0)
    painted = np.stack([paint_scene(rng, size)[1] for _ in range(count)])
    assert {EGO, UNKNOWN} <= set(np.unique(painted[:, 4::8, 4::8]))
    lessons = render(count, np.random.default_rng(0), size, note=lambda text: None)
    taught = torch.stack([lesson.classes for lesson in lessons]).numpy()
    known = painted[:, 4::8, 4::8] < 19
    assert (taught[known] == painted[:, 4::8, 4::8][known]).all() and (taught[~known] == 255).all()


def test_crops_and_mirrors_stay_in_place():
    from training.teacher import Lesson

    column = torch.arange(96).expand(3, 64, 96).byte()
    lesson = Lesson(column, logits=column[:1, ::8, ::8].half())
    for _, (crop,) in zip(range(20), (said for _, said in batches([lesson], 1, 32, 64, seed=1)), strict=False):
        left = crop.picture[0, 0, ::8].minimum(crop.picture[0, 0, 7::8])  # of every cell, mirrored or not
        assert torch.equal(left, crop.logits[0, 0].byte())


def test_trains_and_writes_what_loads(lessons, tmp_path):
    notes = []
    out = tmp_path / "weights.npz"
    trained = train(CompactNet(), lessons, 0.04, batch=2, height=32, width=64, out=out, note=notes.append)
    loaded = CompactNet.load(out)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    with torch.inference_mode():
        assert loaded(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_a_crop_without_a_class_is_no_lesson(lessons, tmp_path):
    from training.teacher import Lesson

    blank = Lesson(lessons[2].picture, classes=torch.full((8, 12), 255, dtype=torch.uint8))
    trained = train(CompactNet(), [blank], 0.02, batch=2, height=32, width=64)
    assert all(t.isfinite().all() for t in trained.state_dict().values())
