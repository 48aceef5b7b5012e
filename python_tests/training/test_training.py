"""Samples and batches of the compact network's training."""

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast.networks import DABNet
from rwpm_fast.scenes import EGO, UNKNOWN
from rwpm_fast.training.augment import batches, label_cells, teacher_entropy_quantile
from rwpm_fast.training.outliers import cutouts, paste_outliers
from rwpm_fast.training.photometric import photometric_jitter, relight_regions
from rwpm_fast.training.samples import PhotoSample, SceneSample, photo_sample, scene_sample
from rwpm_fast.training.textures import random_texture


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (83, 100, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    torch.manual_seed(0)
    return [photo_sample(DABNet().eval(), tmp_path / "a.png")]


@pytest.fixture
def scene():
    """Road, an unknown object and the hood of the ego vehicle."""
    class_map = torch.zeros(96, 160, dtype=torch.uint8)
    class_map[30:60, 40:90], class_map[88:] = UNKNOWN, EGO
    return SceneSample(torch.randint(0, 256, (3, 96, 160), dtype=torch.uint8), class_map)


def test_samples_belong_to_their_images(photos):
    (photo,) = photos
    assert photo.image.shape == (3, 80, 96) and photo.logits.shape == (19, 10, 12)
    scene = scene_sample(np.random.default_rng(0), (64, 96))
    assert scene.image.shape == (3, 64, 96) and scene.class_map.shape == (64, 96)


def test_crops_of_photos_have_the_targets_of_the_teacher(photos):
    crop = next(batches(photos, 40, 32, 64, 19, seed=0))
    assert crop.image.shape == (40, 3, 32, 64) and crop.target.shape == (40, 19, 4, 8)
    torch.testing.assert_close(crop.target.exp().sum(1), torch.ones(40, 4, 8))
    assert not (crop.known & crop.unknown).any() and 0 < crop.unknown.any((1, 2)).sum() < 40


def test_confidence_is_learned_where_the_teacher_is_sure():
    logits = torch.zeros(19, 40, 80)
    logits[3] = torch.linspace(0, 8, 80)  # surer to the right
    sample = PhotoSample(torch.zeros(3, 320, 640, dtype=torch.uint8), logits.half())
    target = logits.half().float().log_softmax(0)
    limit = teacher_entropy_quantile([sample])
    assert (-(target.exp() * target).sum(0) <= limit).float().mean().item() == pytest.approx(0.75, abs=0.02)
    crop = next(batches([sample], 20, 64, 128, 19, seed=0))
    entropy = -(crop.target.exp() * crop.target).sum(1)
    assert torch.equal(crop.confident, crop.known & (entropy <= limit))
    assert crop.confident.any() and (crop.known & ~crop.confident).any()


def test_crops_of_scenes_have_their_true_classes(scene):
    crop = next(batches([scene], 40, 32, 64, 19, seed=0))
    assert crop.unknown.any() and crop.known.any() and not (crop.known & crop.unknown).any()
    assert crop.target.argmax(1)[crop.known].eq(0).all()  # road
    assert (~crop.known & ~crop.unknown).any()  # borders, our own car
    assert torch.equal(crop.confident, crop.known)


def test_targets_follow_crops_and_mirror_images(monkeypatch):
    """An image whose gray rises from the left, and a teacher whose logits are just that gray."""
    monkeypatch.setattr("rwpm_fast.training.augment.RELIT_SHARE", 0)
    gray = (torch.arange(640) * 0.39).expand(3, 320, 640).byte()
    logits = torch.stack([gray[0, 4::8, 4::8].float() / 10, torch.zeros(40, 80)])
    sample = PhotoSample(gray, logits.half())
    for _, crop in zip(range(20), batches([sample], 1, 128, 256, 2, seed=1), strict=False):
        taught = (crop.target[0, 0] - crop.target[0, 1]).flatten()[crop.known.flatten()]
        seen = crop.image[0].float().mean(0)[4::8, 4::8].flatten()[crop.known.flatten()]
        if len(taught) > 8:
            assert torch.corrcoef(torch.stack([taught, seen]))[0, 1] > 0.7


def test_outliers_are_pasted_where_the_opacity_says(photos, scene):
    (cutout,) = cutouts([scene])
    assert cutout.mask.shape == (30, 50) and cutout.mask.all()
    rng = np.random.default_rng(0)
    gray = torch.full((3, 64, 128), 128.0)
    for _ in range(30):
        crop, opacity = paste_outliers(gray, rng, [cutout], photos)
        changed = (crop != gray).any(0)
        assert crop.isfinite().all() and opacity.any()
        near = torch.nn.functional.max_pool2d(opacity[None], 3, 1, 1)[0] > 0
        assert not (changed & ~near).any() and changed[opacity > 0.9].float().mean() > 0.9
    assert (gray == 128).all()
    assert cutouts([SceneSample(scene.image, torch.zeros(96, 160, dtype=torch.uint8))]) == []


def test_outliers_differ_in_size_and_fit_into_any_image(photos, scene):
    rng = np.random.default_rng(1)
    covered = []
    for height, width in 40 * [(256, 480)] + 20 * [(32, 64)]:
        crop, opacity = paste_outliers(torch.full((3, height, width), 99.0), rng, cutouts([scene]), photos)
        assert crop.isfinite().all() and crop.min() >= 0 and crop.max() <= 255 and opacity.max() <= 1
        covered.append((opacity > 0.5).float().mean().item())
    assert min(covered[:40]) < 0.03 and max(covered[:40]) > 0.2


def test_textures_vary_within_the_range_of_pixels(photos):
    rng = np.random.default_rng(0)
    textures = [random_texture(rng, photos, 40, 60) for _ in range(40)]
    assert all(t.shape == (3, 40, 60) and t.dtype == torch.float32 and t.isfinite().all() for t in textures)
    assert all(t.min() >= 0 and t.max() <= 255 for t in textures)
    assert sum(t.std((1, 2)).max().item() > 3 for t in textures) > 35


def test_equal_seeds_give_equal_batches(photos, scene):
    first, second, other = (next(batches([*photos, scene], 3, 32, 64, 19, seed=seed)) for seed in (4, 4, 5))
    for a, b in zip(vars(first).values(), vars(second).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(first.image, other.image)


def test_batches_go_on_at_any_step_and_are_shared(photos, scene):
    whole = batches([*photos, scene], 3, 32, 64, 19, seed=4)
    images = [next(whole).image for _ in range(3)]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(next(batches([*photos, scene], 3, 32, 64, 19, seed=4, first_step=2)).image, images[2])
    shares = [next(batches([*photos, scene], 3, 32, 64, 19, seed=4, shard=slice(i, None, 2))).image for i in range(2)]
    assert torch.equal(shares[0], images[0][::2]) and torch.equal(shares[1], images[0][1::2])


def test_cells_at_the_border_of_an_outlier_are_neither_known_nor_unknown():
    opacity = torch.zeros(64, 64)
    opacity[16:32, 16:36] = 1  # two rows of cells, two and a half columns
    known, unknown = label_cells(opacity)
    assert unknown.nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    expected = torch.ones(8, 8, dtype=torch.bool)
    expected[1:5, 1:6] = False
    assert torch.equal(known, expected)


def test_photometric_jitter_changes_light_and_keeps_the_scene():
    rng = np.random.default_rng(0)
    image = 255 * torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    image[:, :, 24:] *= 0.2
    means = []
    for _ in range(50):
        jittered = photometric_jitter(image, rng)
        assert jittered.shape == image.shape and jittered.dtype == torch.float32 and jittered.isfinite().all()
        assert jittered[:, :, :23].mean() > jittered[:, :, 25:].mean()
        means.append(jittered.mean().item())
    assert min(means) < 0.8 * image.mean() and max(means) > 1.2 * image.mean()


@pytest.mark.parametrize("size", [(256, 480), (32, 64)])
def test_regions_in_other_light_keep_the_rest(size):
    rng = np.random.default_rng(0)
    gray = torch.full((3, *size), 100.0)
    changes = []
    for _ in range(20):
        relit = relight_regions(gray, rng)
        assert relit.shape == gray.shape and relit.min() > 0 and relit.max() <= 255
        changed = (relit - gray).abs().amax(0) > 0.5
        changes.append(changed.float().mean().item())
    assert min(changes) < 0.5 and max(changes) > 0.05
    assert (gray == 100).all()


def test_package_import_leaves_these_rooms_alone(run_python):
    run_python(
        """
import sys
import rwpm_fast
rooms = tuple(f"rwpm_fast.{name}" for name in ("data", "demo", "io", "scenes", "training", "viz"))
assert not [name for name in sys.modules if name.startswith(rooms)]
import rwpm_fast.demo, rwpm_fast.scenes, rwpm_fast.training.run, rwpm_fast.viz.html
assert not {"matplotlib", "PIL", "scipy", "sklearn", "transformers", "triton"} & set(sys.modules)
"""
    )
