"""The whole training of a method: what its folder holds, whose files it goes on with, and what it refuses first."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from python_tests.synboost.parts import Posterized, vgg19
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.networks.checkpoint import read_state_dict
from rwpm_fast.synboost import training_run
from rwpm_fast.synboost.annotated import Annotated, SceneSource, scene_sources
from rwpm_fast.synboost.dissimilarity_training import TrainingSettings
from rwpm_fast.synboost.generator_run import GeneratorSettings
from rwpm_fast.synboost.trained import read_training
from rwpm_fast.synboost.training_run import train_method

SIZE = (32, 64)
SCENES = scene_sources(4, size=SIZE)


def train(folder, network=None, **changes):
    arguments = {
        "training": SCENES[:3],
        "validation": SCENES[3:],
        "size": SIZE,
        "width": 2,
        "settings": TrainingSettings(epochs=2, learning_rate=1e-3),
        "generator": GeneratorSettings(steps=1),
    }
    return train_method("synboost", Scorer(network or TinyNetwork()), folder=folder, **arguments | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, train(folder)


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the folder of a training, which a test may change."""
    return shutil.copytree(finished[0], tmp_path / "run")


def test_the_result_is_that_of_the_saved_weights(finished):
    folder, trained = finished
    saved = read_state_dict(folder / "synboost.npz")
    used = trained.pipeline.dissimilarity.state_dict()
    assert all(saved[name].dtype == torch.float16 for name in saved)
    assert all((used[name] == saved[name].to(used[name].dtype)).all() for name in saved)
    best = torch.load(folder / "work/synboost.pt", weights_only=True)["progress"]["best"]
    assert any((best[f"network.{name}"] != used[name]).any() for name in saved)  # rounding changed something


def test_the_record_tells_what_it_was_made_with(finished, tmp_path):
    assert read_training("synboost", finished[0]).files_of_others == ()
    train(tmp_path, synthesis=Posterized(), features=vgg19(), settings=TrainingSettings(epochs=1))
    training = read_training("synboost", tmp_path)
    assert training.files_of_others == ("generator", "image_encoder", "vgg19")
    assert (training.width, training.size, training.generator) == (2, SIZE, None)


def test_weights_are_saved_before_the_search(folder, monkeypatch):
    (folder / "synboost.npz").unlink()

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(training_run, "best_weights", fail)
    with pytest.raises(MemoryError):
        train(folder)
    assert read_state_dict(folder / "synboost.npz")


def test_curves_are_completed(folder):
    curves = folder / "synboost_curves.csv"
    whole = curves.read_text()
    assert len(whole.splitlines()) == 3
    curves.write_text(whole[: whole.rindex("2,")])
    seen = []
    history = train(folder, on_epoch=seen.append).history
    assert curves.read_text() == whole and seen == [history]


def test_leftovers_are_removed(folder):
    left = [folder / place / ".rwpm-0123.tmp" for place in (".", "work", "work/training-examples")]
    other = folder / "notes.tmp"
    for file in (*left, other):
        file.touch()
    train(folder)
    assert not any(file.exists() for file in left) and other.exists()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"generator": GeneratorSettings(steps=2)}, "steps"),
        ({"generator": GeneratorSettings(steps=1, batch=1)}, "batch"),
        ({"settings": TrainingSettings(seed=1)}, "seed"),
        ({"settings": TrainingSettings(half_precision=True)}, "half_precision"),
        ({"size": (64, 64)}, "size"),
        ({"training": SCENES[:2]}, "names"),
        ({"network": TinyNetwork(bias=False)}, "network"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("file", ["generator.npz", "work/generator.pt"])
def test_generator_of_another_training(folder, file, changes, name):
    (folder / "generator.npz").rename(folder / file)
    with pytest.raises(
        ValueError, match=rf"{file}: of a training with other {name}, as .*generator\.json tells; delete"
    ):
        train(folder, **changes)


def test_own_generator_is_used_as_it_is(folder):
    (folder / "generator.json").unlink()
    before = (folder / "generator.npz").read_bytes()
    train(folder, generator=GeneratorSettings(steps=2))
    assert (folder / "generator.npz").read_bytes() == before and not (folder / "generator.json").exists()


def test_checkpoint_of_an_unknown_or_damaged_generator(folder):
    (folder / "generator.npz").rename(folder / "work/generator.pt")
    with pytest.raises(ValueError, match=r"generator\.pt is damaged .*; delete it to train the generator anew"):
        train(folder)
    (folder / "generator.json").write_text("[")
    with pytest.raises(ValueError, match=r"generator\.json is damaged .*; delete .*generator\.pt to train"):
        train(folder)
    (folder / "generator.json").unlink()
    with pytest.raises(ValueError, match=r"generator\.json is missing, which tells what .*generator\.pt is of; delete"):
        train(folder)


class Killed(Exception):
    pass


def test_generator_is_recorded_before_its_first_step(tmp_path):
    def killed(items, what, unit):
        if what == "generator":
            raise Killed
        return items

    with pytest.raises(Killed):
        train(tmp_path, bar=killed)
    record = json.loads((tmp_path / "generator.json").read_text())
    assert record["steps"] == 1 and record["names"] == [source.name for source in SCENES[:3]]
    assert not (tmp_path / "generator.npz").exists()


class TooManyClasses(TinyNetwork):
    classes = tuple(map(str, range(20)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": TooManyClasses()}, "segmentation: expected at most the 19 classes"),
        ({"training": []}, "training: expected one or more annotated photos, got none"),
        ({"validation": [SCENES[3], SCENES[3]]}, "validation: expected each name once"),
        ({"features": 3}, "features: expected a network"),
    ],
    ids=["classes", "no photo", "name", "features"],
)
def test_refused_before_any_work(tmp_path, changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        train(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@dataclass(frozen=True)
class Altered:
    """A scene with another label map."""

    scene: SceneSource
    label: int

    @property
    def name(self):
        return self.scene.name

    def read(self) -> Annotated:
        annotated = self.scene.read()
        labels = np.full_like(annotated.label_map, self.label)
        return replace(annotated, label_map=labels, instances=labels)


def test_validation_without_an_anomaly(folder):
    shutil.rmtree(folder / "work/validation-examples")
    (folder / "work/synboost.pt").unlink()
    with pytest.raises(ValueError, match="got no anomalies in 2 examples; give more photos"):
        train(folder, validation=[Altered(SCENES[3], 7)])
    assert not (folder / "work/synboost.pt").exists()


def test_wrong_annotations_name_the_photo(tmp_path):
    with pytest.raises(ValueError, match=rf"{SCENES[1].name}: label_map: expected Cityscapes label ids"):
        train(tmp_path, training=[SCENES[0], Altered(SCENES[1], 99)])
