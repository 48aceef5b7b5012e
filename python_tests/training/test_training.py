"""The code that makes the compact network's weights, on pictures too small to learn much of."""

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast.networks import DABNet
from rwpm_fast.networks.compact import CompactNet
from rwpm_fast.scenes.labels import EGO, UNKNOWN
from rwpm_fast.training.augment import View, batches
from rwpm_fast.training.loop import _losses, _sureness, train
from rwpm_fast.training.outliers import cutouts, paste
from rwpm_fast.training.samples import Lesson
from rwpm_fast.training.scenes import render
from rwpm_fast.training.teacher import look


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (83, 100, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    torch.manual_seed(0)
    return look(DABNet().eval(), [tmp_path], note=lambda text: None)


@pytest.fixture
def scene():
    """Road, a thing that no class is for, and our own car."""
    classes = torch.zeros(96, 160, dtype=torch.uint8)
    classes[30:60, 40:90], classes[88:] = UNKNOWN, EGO
    return Lesson(torch.randint(0, 256, (3, 96, 160), dtype=torch.uint8), classes=classes)


def test_lessons_belong_to_their_pictures(photos):
    (lesson,) = photos + render(0, np.random.default_rng(0))
    assert lesson.picture.shape == (3, 80, 96) and lesson.logits.shape == (19, 10, 12)
    (scene,) = render(1, np.random.default_rng(0), (64, 96), note=lambda text: None)
    assert scene.picture.shape == (3, 64, 96) and scene.classes.shape == (64, 96)


def test_views_of_photos_say_what_the_teacher_says(photos):
    view = next(batches(photos, 40, 32, 64, 19, seed=0))
    assert view.picture.shape == (40, 3, 32, 64) and view.target.shape == (40, 19, 4, 8)
    torch.testing.assert_close(view.target.exp().sum(1), torch.ones(40, 4, 8))
    assert view.evidence.isfinite().all()
    assert not (view.known & view.unknown).any() and 0 < view.unknown.any((1, 2)).sum() < 40
    low, high = (f(photos[0].logits.float().logsumexp(0)) for f in (torch.amin, torch.amax))
    assert (view.evidence >= low - 0.1).all() and (view.evidence <= high + 0.1).all()


def test_views_of_scenes_say_what_is_there(scene):
    view = next(batches([scene], 40, 32, 64, 19, seed=0))
    assert view.evidence.isnan().all()
    assert view.unknown.any() and view.known.any() and not (view.known & view.unknown).any()
    assert view.target.argmax(1)[view.known].eq(0).all()  # road
    assert (~view.known & ~view.unknown).any()  # borders, our own car


def test_views_and_mirrors_stay_in_place():
    """A picture whose gray rises from the left, and a teacher who says just that gray."""
    gray = (torch.arange(640) * 0.39).expand(3, 320, 640).byte()
    logits = torch.stack([gray[0, 4::8, 4::8].float() / 10, torch.zeros(40, 80)])
    lesson = Lesson(gray, logits=logits.half())
    for _, view in zip(range(20), batches([lesson], 1, 128, 256, 2, seed=1), strict=False):
        said = (view.target[0, 0] - view.target[0, 1]).flatten()[view.known.flatten()]
        seen = view.picture[0].float().mean(0)[4::8, 4::8].flatten()[view.known.flatten()]
        if len(said) > 8:
            assert torch.corrcoef(torch.stack([said, seen]))[0, 1] > 0.7


def test_strangers_are_pasted_where_it_is_said(photos, scene):
    (thing,) = cutouts([scene])
    assert thing.shape.shape == (30, 50) and thing.shape.all()
    rng = np.random.default_rng(0)
    gray = torch.full((3, 64, 128), 128.0)
    for _ in range(30):
        view, shapes = paste(gray, rng, [thing], photos)
        changed = (view != gray).any(0)
        assert view.isfinite().all() and shapes.any()
        near = torch.nn.functional.max_pool2d(shapes[None], 3, 1, 1)[0] > 0
        assert not (changed & ~near).any() and changed[shapes > 0.9].float().mean() > 0.9
    assert (gray == 128).all()
    assert cutouts([Lesson(scene.picture, classes=torch.zeros(96, 160, dtype=torch.uint8))]) == []


def test_losses_pull_where_they_should():
    target = torch.full((1, 3, 2, 2), -9.0)
    target[:, 0] = 0
    target = target.log_softmax(1)
    known = torch.tensor([[[True, True], [False, False]]])
    evidence = torch.tensor([[[8.0, torch.nan], [8.0, 8.0]]])
    view = View(torch.empty(0), target, evidence, known, torch.tensor([[[False, False], [True, False]]]))

    def losses(shift):
        return torch.stack(_losses(target + shift, view, sure=6.0))

    torch.testing.assert_close(losses(8.0)[:3], torch.zeros(3), atol=1e-5, rtol=0)
    assert (losses(3.0)[1:3] > losses(8.0)[1:3] + 0.1).all()  # too unsure of what is known
    assert losses(8.0)[3] > losses(0.0)[3] > 0  # too sure of a stranger
    assert _losses(target.flip(1) + 8, view, sure=6.0)[0] > 1  # another class
    assert _sureness([]) == 6.0


def test_trains_and_writes_what_loads(photos, scene, tmp_path):
    notes = []
    out = tmp_path / "weights.npz"
    lessons = [*photos, scene]
    trained = train(CompactNet(), lessons, 0.04, batch=2, height=32, width=64, out=out, note=notes.append)
    loaded = CompactNet.load(out)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    with torch.inference_mode():
        assert loaded(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_a_view_without_a_class_is_no_lesson(scene):
    blank = Lesson(scene.picture, classes=torch.full((96, 160), EGO, dtype=torch.uint8))
    trained = train(CompactNet(), [blank], 0.02, batch=2, height=32, width=64)
    assert all(t.isfinite().all() for t in trained.state_dict().values())
