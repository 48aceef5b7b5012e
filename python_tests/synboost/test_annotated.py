"""Annotated photos: rendered scenes in the form of Cityscapes, and Cityscapes' own files."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from rwpm_fast.io.images import ImageError
from rwpm_fast.scenes import EGO, UNKNOWN, render_scene, render_scene_objects
from rwpm_fast.synboost.annotated import cityscapes_sources, scene_sources, split_sources
from rwpm_fast.synboost.labels import swap_instances, train_ids, void_labels

SIZE = (64, 128)


@pytest.fixture(scope="module")
def scenes():
    return [source.read() for source in scene_sources(8, seed=3, size=SIZE)]


def test_scenes_are_those_that_are_rendered(scenes):
    for number in (0, 5):
        photo, class_map = render_scene(np.random.default_rng([3, number]), SIZE)
        assert (scenes[number].photo == photo).all()
        known = class_map < EGO
        assert (train_ids(scenes[number].label_map)[known] == class_map[known]).all()
        labels = void_labels(scenes[number].label_map)
        assert ((labels == 1) == (class_map == UNKNOWN)).all() and ((labels == 255) == (class_map == EGO)).all()
    assert any((void_labels(scene.label_map) == 1).any() for scene in scenes)


def test_instances_tell_objects_apart(scenes):
    objects = 0
    for scene in scenes:
        things = scene.label_map >= 24
        assert (scene.instances[things] // 1000 == scene.label_map[things]).all()
        assert (scene.instances[~things] == scene.label_map[~things]).all()
        _, labels = swap_instances(scene.label_map, scene.instances, np.random.default_rng(0))
        # An object is altered as a whole.
        for number in np.unique(scene.instances[things]):
            assert len(np.unique(labels[scene.instances == number])) == 1
            objects += 1
    assert objects > 2 * len(scenes)


def test_objects_are_numbered_where_they_are_seen():
    scene = render_scene_objects(np.random.default_rng([0, 0]), (128, 256))
    cars = np.unique(scene.object_map[scene.class_map == 13])
    assert cars.min() > 0 and len(cars) > 1
    for number in cars:  # of each the pixels are near each other
        rows, columns = np.nonzero((scene.object_map == number) & (scene.class_map == 13))
        assert np.ptp(rows) < 40 and np.ptp(columns) < 60


def test_names_differ():
    sizes = (64, 128), (128, 64)
    names = {source.name for seed in (0, 1) for size in sizes for source in scene_sources(3, seed, size)}
    assert len(names) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count: expected 1 or more scenes, got 0"),
        ({"count": 1, "seed": -1}, "seed: expected 0 or more, got -1"),
        ({"count": 1, "size": (8, 64)}, "size: expected .* 16 pixels or more, got 8 x 64"),
    ],
)
def test_bad_scenes(arguments, message):
    with pytest.raises(ValueError, match=message):
        scene_sources(**arguments)


@pytest.fixture
def cityscapes(tmp_path):
    """Three photos of two cities, as Cityscapes keeps them."""
    rng = np.random.default_rng(0)
    for stem in ("aachen_000001_000019", "aachen_000000_000019", "bochum_000000_000313"):
        city = stem.split("_")[0]
        photos, labels = (tmp_path / part / "train" / city for part in ("leftImg8bit", "gtFine"))
        photos.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        label_map = rng.choice(np.array([0, 1, 7, 26], np.uint8), (8, 16))
        instances = np.where(label_map == 26, 26_000 + np.arange(16) // 8, label_map).astype(np.uint16)
        Image.fromarray(rng.integers(0, 256, (8, 16, 3), np.uint8)).save(photos / f"{stem}_leftImg8bit.png")
        Image.fromarray(label_map).save(labels / f"{stem}_gtFine_labelIds.png")
        Image.fromarray(instances).save(labels / f"{stem}_gtFine_instanceIds.png")
    return tmp_path


def test_cityscapes(cityscapes):
    sources = cityscapes_sources(cityscapes)
    assert [source.name for source in sources] == [
        "aachen_000000_000019",
        "aachen_000001_000019",
        "bochum_000000_000313",
    ]
    found = sources[0].read()
    assert found.photo.shape == (8, 16, 3)
    assert (found.instances[found.label_map == 26] // 1000 == 26).all() and found.instances.max() == 26_001
    swap_instances(found.label_map, found.instances, np.random.default_rng(0))


def test_cityscapes_without_annotations(cityscapes):
    missing = next(cityscapes.rglob("bochum*instanceIds.png"))
    missing.unlink()
    with pytest.raises(ImageError, match=f"1 annotations .* missing: {missing.name}; unpack gtFine"):
        cityscapes_sources(cityscapes)
    with pytest.raises(ImageError, match=re.escape("expected CITY/*_leftImg8bit.png")):
        cityscapes_sources(cityscapes, "val")


def test_cityscapes_of_another_size(cityscapes):
    file = next(cityscapes.rglob("bochum*labelIds.png"))
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(file)
    with pytest.raises(ImageError, match=r"expected the photo's size, \[8, 16\], got \[4, 8\]"):
        cityscapes_sources(cityscapes)[2].read()


@pytest.mark.parametrize(("count", "every", "validation"), [(20, 10, [9, 19]), (5, 10, [4]), (4, 2, [1, 3])])
def test_split(count, every, validation):
    sources = scene_sources(count)
    first, second = split_sources(sources, every)
    assert [source.number for source in second] == validation
    assert sorted(source.number for source in first) == sorted(set(range(count)) - set(validation))


def test_split_of_one_photo():
    with pytest.raises(ValueError, match="expected two photos or more"):
        split_sources(scene_sources(1))
    with pytest.raises(ValueError, match="every: expected 2 or more, got 1"):
        split_sources(scene_sources(3), 1)
