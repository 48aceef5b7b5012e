"""The whole training of the compact network: what its folder holds, whose files it goes on with, what it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast.networks import DABNet
from rwpm_fast.networks.checkpoint import read_state_dict, save_float16
from rwpm_fast.networks.compact import CompactNet
from rwpm_fast.training import run, sample_cache, trainer
from rwpm_fast.training.run import train_compact
from rwpm_fast.training.settings import TrainingSettings, WalkSchedule

SETTINGS = TrainingSettings(steps=5, batch=2, size=(32, 64))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = [folder / name for name in ("a.png", "b.png")]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
    return paths


def teacher(seed=0):
    torch.manual_seed(seed)
    return DABNet().eval()


@pytest.fixture(scope="module", autouse=True)
def often():
    """Save and report at every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SAVE_SECONDS", -1)
        patch.setattr(trainer, "REPORT_STEPS", 1)
        yield


@pytest.fixture
def train(photos):
    def train(folder, used=None, taught_by=None, **arguments):
        settings = {"settings": SETTINGS} | arguments
        return train_compact(folder, photos if used is None else used, taught_by or teacher(), **settings)

    return train


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("finished")
    train_compact(folder, photos, teacher(), settings=SETTINGS)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the folder of a training, which a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


def equal(one, other):
    states = [read_state_dict(folder / "compact.npz") for folder in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_it_gives(train, tmp_path):
    lines, saved = [], []
    network = train(tmp_path / "run", scenes=1, log=lines.append, on_save=lambda history: saved.append(len(history)))
    assert not network.training and {t.dtype for t in network.state_dict().values()} == {torch.float32}
    state = read_state_dict(tmp_path / "run/compact.npz")
    assert {t.dtype for t in state.values()} == {torch.float16}
    assert all(torch.equal(state[name].float(), now) for name, now in network.state_dict().items())
    content = json.loads((tmp_path / "run/compact.json").read_text())
    assert content["training"]["photos"] == ["a.png", "b.png"] and content["training"]["scenes"] == 1
    assert content["training"]["learning_rate"] == SETTINGS.learning_rate and content["training"]["walk"] is None
    assert [report["step"] for report in content["history"]] == [1, 2, 3, 4, 5]
    assert saved == [1, 2, 3, 4, 5, 5]
    assert "2 photos and 1 scenes" in lines[0] and lines[1].startswith("step 1: classes ") and len(lines) == 6
    with torch.inference_mode():
        assert network(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_a_save_before_the_first_report(train, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "REPORT_STEPS", 4)
    saved = []
    train(tmp_path / "run", on_save=lambda history: saved.append(len(history)))
    assert saved == [1, 2, 2]  # after steps 4 and 5, and at the end


class Killed(Exception):
    pass


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_going_on_gives_the_same_bits(train, finished, tmp_path, steps):
    def killed(items, what, unit):
        for number, item in enumerate(items):
            if what == "train" and number == steps:
                raise Killed
            yield item

    with pytest.raises(Killed):
        train(tmp_path / "run", bar=killed)
    assert not (tmp_path / "run/compact.npz").exists()
    train(tmp_path / "run")
    assert equal(tmp_path / "run", finished)
    one, other = (json.loads((folder / "compact.json").read_text()) for folder in (tmp_path / "run", finished))
    assert one == other


def test_another_seed_gives_other_weights(train, finished, tmp_path):
    train(tmp_path / "run", settings=replace(SETTINGS, seed=1))
    assert not equal(tmp_path / "run", finished)


def test_a_finished_training_takes_no_step(folder, train):
    before = (folder / "compact.npz").read_bytes()
    lines = []
    train(folder, log=lines.append)
    assert len(lines) == 1  # of the samples
    shutil.rmtree(folder / "work")
    train(folder, log=lines.append)
    assert len(lines) == 1 and (folder / "compact.npz").read_bytes() == before and not (folder / "work").exists()


def test_samples_are_made_once(folder, train, monkeypatch):
    (folder / "work/compact.pt").unlink()
    (folder / "compact.npz").unlink()
    monkeypatch.setattr(sample_cache, "photo_sample", lambda *arguments: pytest.fail("made again"))
    train(folder)


def test_leftovers_are_removed(folder, train):
    left = [folder / place / ".rwpm-0123.tmp" for place in (".", "work", "work/samples")]
    for file in left:
        file.touch()
    train(folder)
    assert not any(file.exists() for file in left)


def test_starts_with_given_weights(train, finished, tmp_path):
    torch.manual_seed(5)
    start = tmp_path / "start.npz"
    save_float16(CompactNet(), start)
    train(tmp_path / "run", start=start)
    assert not equal(tmp_path / "run", finished)
    with pytest.raises(ValueError, match="of a training with other start, as"):
        train(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"settings": replace(SETTINGS, steps=6)}, "steps"),
        ({"settings": replace(SETTINGS, batch=1)}, "batch"),
        ({"settings": replace(SETTINGS, learning_rate=1e-3)}, "learning_rate"),
        ({"settings": replace(SETTINGS, size=(64, 64))}, "size"),
        ({"settings": replace(SETTINGS, seed=1)}, "seed"),
        ({"settings": replace(SETTINGS, walk=WalkSchedule())}, "walk"),
        ({"scenes": 1}, "scenes, samples"),
        ({"taught_by": teacher(1)}, "teacher, samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("kept", ["compact.npz", "work/compact.pt"])
def test_files_of_another_training(folder, train, kept, changes, names):
    for file in {"compact.npz", "work/compact.pt"} - {kept}:
        (folder / file).unlink()
    with pytest.raises(ValueError, match=rf"{kept}: of a training with other {names}, as .*compact\.json tells; give"):
        train(folder, **changes)


def test_other_photos(folder, train, photos):
    with pytest.raises(ValueError, match="of a training with other photos, samples, as"):
        train(folder, photos[:1])


def test_files_of_an_unknown_or_damaged_training(folder, train):
    (folder / "work/compact.pt").write_bytes(b"zip?")
    with pytest.raises(ValueError, match=r"compact\.pt is damaged \(.*\); delete it to train anew"):
        train(folder)
    (folder / "compact.json").write_text("[")
    with pytest.raises(ValueError, match=r"compact\.json is damaged \(.*\); give another folder, or delete .*npz and"):
        train(folder)
    (folder / "compact.json").unlink()
    with pytest.raises(ValueError, match=r"compact\.json is missing, which tells what .*compact\.npz and .*pt is of"):
        train(folder)


def test_what_is_refused_before_any_work(tmp_path, photos, monkeypatch):
    for arguments, message in (
        ({"scenes": 0}, "scenes: expected 1 or more without photos, got 0; give photos, or render scenes"),
        ({"scenes": -1}, "scenes: expected 0 or more, got -1"),
        ({"photos": photos}, "teacher: expected photos and their teacher together, got photos alone"),
        ({"teacher": teacher(), "scenes": 1}, "teacher: expected photos and their teacher together, got a teacher"),
    ):
        with pytest.raises(ValueError, match=message):
            train_compact(tmp_path, **arguments)
    monkeypatch.setattr(run.collective, "count", lambda: 2)
    with pytest.raises(ValueError, match="batch: expected a multiple of the 2 processes that share it, got 3"):
        train_compact(tmp_path, scenes=1, settings=replace(SETTINGS, batch=3))
    assert not list(tmp_path.iterdir())


def test_failures_are_told(train, tmp_path, monkeypatch):
    losses = trainer.compute_losses
    calls = []

    def spoiled(logits, *arguments):
        calls.append(None)
        return losses(logits, *arguments) * (float("nan") if len(calls) == 2 else 1)

    monkeypatch.setattr(trainer, "compute_losses", spoiled)
    lines = []
    train(tmp_path / "run", log=lines.append)
    assert "not finite" not in lines[1] and lines[-1].endswith("; 1 steps so far were not finite")
    history = json.loads((tmp_path / "run/compact.json").read_text())["history"]
    assert [report["failures"] for report in history] == [0, 1, 1, 1, 1] and history[1]["losses"]["classes"] is None
