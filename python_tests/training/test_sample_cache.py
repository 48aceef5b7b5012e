"""Samples kept in a folder: made once, and never read where they are of something else."""

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast.networks import DABNet
from rwpm_fast.training import sample_cache
from rwpm_fast.training.sample_cache import SampleSource, photo_sources, prepare_samples, scene_sources
from rwpm_fast.training.samples import PhotoSample, SceneSample


def teacher(seed=0):
    torch.manual_seed(seed)
    return DABNet().eval()


def photo(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def counted(monkeypatch):
    """Make scenes small, and count what is made."""
    made = []

    def scene(seed, number):
        made.append((seed, number))
        image = torch.full((3, 32, 64), number, dtype=torch.uint8)
        return SceneSample(image, image[0])

    monkeypatch.setattr(sample_cache, "_scene_sample", scene)
    return made


def test_samples_are_made_once(tmp_path, counted):
    first = prepare_samples(scene_sources(3, seed=7), tmp_path)
    assert counted == [(7, 0), (7, 1), (7, 2)] and [int(sample.image[0, 0, 0]) for sample in first] == [0, 1, 2]
    again = prepare_samples(scene_sources(4, seed=7), tmp_path)
    assert counted[3:] == [(7, 3)] and len(again) == 4 and isinstance(again[0], SceneSample)
    assert torch.equal(again[1].class_map, first[1].class_map) and again[1].image.dtype == torch.uint8


def test_an_interrupted_preparation_goes_on(tmp_path, counted):
    def stopped(sources):
        yield from sources[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_samples(scene_sources(3, seed=7), tmp_path, progress=stopped)
    assert len(prepare_samples(scene_sources(3, seed=7), tmp_path)) == 3
    assert counted == [(7, 0), (7, 1), (7, 2)]


def test_samples_of_others_are_removed(tmp_path, counted):
    prepare_samples(scene_sources(3, seed=7), tmp_path)
    (tmp_path / "notes.txt").touch()
    prepare_samples(scene_sources(1, seed=8), tmp_path)
    assert counted[3:] == [(8, 0)] and len(list(tmp_path.glob("*.pt"))) == 1 and (tmp_path / "notes.txt").exists()


def test_keys_tell_what_samples_are_made_of(tmp_path, monkeypatch):
    path = photo(tmp_path / "a.png")

    def key(network):
        return photo_sources([path], network)[0].key

    first = key(teacher())
    assert key(teacher()) == first and key(teacher(1)) != first
    photo(path, seed=1)
    assert key(teacher()) != first
    photo(path)
    assert key(teacher()) == first
    monkeypatch.setattr(sample_cache, "__version__", "0.0.0")
    assert key(teacher()) != first
    keys = [source.key for seed in (0, 1) for source in scene_sources(2, seed)]
    assert len(set(keys)) == 4


def test_photos_come_back_as_they_were(tmp_path):
    (source,) = photo_sources([photo(tmp_path / "a.png")], teacher())
    made = source.make()
    (read,) = prepare_samples([source], tmp_path)
    assert isinstance(read, PhotoSample) and read.logits.dtype == torch.float16
    assert torch.equal(read.image, made.image) and torch.equal(read.logits, made.logits)


def test_scenes_are_those_of_seed_and_number():
    one, two, other = (source.make() for source in (*scene_sources(2, 3), scene_sources(1, 4)[0]))
    assert torch.equal(scene_sources(1, 3)[0].make().image, one.image)
    assert not torch.equal(one.image, two.image) and not torch.equal(one.image, other.image)


def test_a_damaged_file(tmp_path):
    source = SampleSource("ab", SceneSample, lambda: pytest.fail("made again"))
    (tmp_path / "ab.pt").write_bytes(b"zip?")
    with pytest.raises(ValueError, match=r"ab\.pt is damaged \(.*\); delete it, and it is made again"):
        prepare_samples([source], tmp_path)
