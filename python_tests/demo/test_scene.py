"""The scene is deterministic, honest about its labels, and one that a walk improves."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_curve

from rwpm_fast import reference
from rwpm_fast.demo.scene import SceneNetwork, render_scene
from rwpm_fast.networks.base import Network

SIZE = (256, 512)


@pytest.fixture(scope="module", params=[0, 1, 2])
def scene(request):
    return render_scene(request.param, SIZE)


def test_shapes_and_types(scene):
    assert scene.photo.shape == (*SIZE, 3)
    assert scene.photo.dtype == np.uint8
    assert scene.labels.shape == scene.class_map.shape == SIZE
    assert scene.labels.dtype == scene.class_map.dtype == np.uint8
    assert scene.embedding_map.shape == (1, 64, 32, 64)
    assert scene.embedding_map.dtype == torch.float32
    assert scene.weight.shape == (19, 64)
    assert scene.bias.shape == (19,)
    assert all(t.isfinite().all() for t in (scene.embedding_map, scene.weight, scene.bias))


def test_labels(scene):
    assert set(np.unique(scene.labels)) == {0, 1, 255}
    assert set(np.unique(scene.class_map)) <= {*range(19), 255}
    assert (scene.class_map[scene.labels == 1] == 255).all()
    assert (scene.class_map[scene.labels == 0] != 255).all()
    assert 0.002 < (scene.labels == 1).mean() < 0.05
    rim = (scene.labels == 255) & (scene.class_map == 255)
    assert rim.any()
    assert rim.sum() < (scene.labels == 1).sum()


def test_picture_uses_the_whole_range(scene):
    assert scene.photo.std() > 30
    assert len(np.unique(scene.class_map)) >= 9


def score(scene, embedding_map):
    logits = SceneNetwork(scene).head(embedding_map)
    energy = -torch.logsumexp(logits, dim=1, keepdim=True)
    return torch.nn.functional.interpolate(energy, size=SIZE, mode="bilinear", align_corners=False)[0, 0].numpy()


def test_walk_improves_the_energy_score(scene):
    embeddings = scene.embedding_map[0].flatten(1).T  # [N, D]
    walked = reference.walk(embeddings, alpha=0.99, steps=20, temperature=0.01).T.reshape(scene.embedding_map.shape)
    counted = scene.labels != 255
    anomaly = scene.labels[counted] == 1
    ap, fpr95 = [], []
    for embedding_map in (scene.embedding_map, walked):
        scores = score(scene, embedding_map)[counted]
        false_rate, true_rate, _ = roc_curve(anomaly, scores)
        ap.append(average_precision_score(anomaly, scores))
        fpr95.append(false_rate[np.searchsorted(true_rate, 0.95)])
    assert 0.1 < ap[0] < 0.7, "without the walk the score must be neither hopeless nor good"
    assert ap[1] > ap[0] + 0.2
    assert fpr95[1] < fpr95[0] / 3


def test_same_bits_whatever_the_global_state():
    first = render_scene(3, (64, 128))
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    torch.manual_seed(5)
    state = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    second = render_scene(3, (64, 128))
    for a, b in zip(vars(first).values(), vars(second).values(), strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(np.random.get_state()[1], state[0])  # noqa: NPY002
    assert random.getstate() == state[1]
    assert torch.equal(torch.get_rng_state(), state[2])


def test_seeds_differ():
    first, second = (render_scene(seed, (64, 128)) for seed in (0, 1))
    assert not np.array_equal(first.photo, second.photo)
    assert not torch.equal(first.embedding_map, second.embedding_map)


@pytest.mark.parametrize(("size", "stride"), [((96, 96), 4), ((60, 210), 6), ((128, 64), 1)], ids=str)
def test_other_shapes(size, stride):
    scene = render_scene(0, size, stride, channels=32)
    assert scene.embedding_map.shape == (1, 32, size[0] // stride, size[1] // stride)


@pytest.mark.parametrize("arguments", [{"size": (65, 128)}, {"size": (0, 128)}, {"stride": 0}], ids=str)
def test_size_must_be_multiples_of_the_stride(arguments):
    with pytest.raises(ValueError, match="size: expected positive multiples"):
        render_scene(**arguments)


def test_too_few_channels():
    with pytest.raises(ValueError, match="channels: expected 32 or more, got 19"):
        render_scene(channels=19)


def test_network_knows_its_photo(scene):
    network = SceneNetwork(scene)
    assert isinstance(network, Network)
    assert len(network.classes) == 19
    assert network.stride == 8
    assert network.linear_head
    photos = torch.from_numpy(scene.photo).permute(2, 0, 1)[None]
    images = network.preprocess(photos)
    assert images.is_floating_point()
    assert torch.equal(network.embed(images), scene.embedding_map)
    assert network(images.expand(2, -1, -1, -1)).shape == (2, 19, 32, 64)
    expected = torch.einsum("kd,bdhw->bkhw", scene.weight, scene.embedding_map) + scene.bias[:, None, None]
    torch.testing.assert_close(network(images), expected)


def test_network_refuses_other_photos(scene):
    network = SceneNetwork(scene)
    with pytest.raises(ValueError, match=r"expected \[B, 3, 256, 512\].*got \[1, 3, 128, 512\]"):
        network.embed(torch.zeros(1, 3, 128, 512))
