"""``rwpm-fast train compact``: a training in miniature, killed and resumed, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast import cli
from rwpm_fast.networks.checkpoint import read_state_dict
from rwpm_fast.networks.compact import CompactNet
from rwpm_fast.training import trainer

TINY = ["--scenes", "1", "--size", "32", "64", "--batch", "2", "--threads", "1"]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def equal(*folders):
    states = [read_state_dict(folder / "compact.npz") for folder in folders]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_in_miniature(photos, weights, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "compact", "--out", str(out), *TINY, "--steps", "3"]
    command += ["--photos", str(photos), "--teacher", str(weights)]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "samples of 1 photos and 1 scenes" in printed and "step 3: classes " in printed and str(out) in printed
    CompactNet.load(out / "compact.npz")
    settings = json.loads((out / "compact.json").read_text())["training"]
    assert settings["photos"] == ["a.png"] and settings["size"] == [32, 64] and settings["walk"] is None
    assert Image.open(out / "compact_curves.png").size == (1000, 540)

    assert cli.main(command) == 0
    assert "step" not in capsys.readouterr().out  # everything is there
    assert cli.main([*command, "--seed", "1"]) == 2
    assert "of a training with other seed, samples, as" in capsys.readouterr().err


def test_walk_of_the_options(tmp_path, capsys, monkeypatch):
    """The settings arrive where the logits walk; the walk itself is that of python_tests/training."""
    seen = []

    def walk_map(embedding_map, value_map, **settings):
        seen.append(settings)
        return value_map * 1.0

    monkeypatch.setattr(trainer, "walk_map", walk_map)
    options = "--steps 5 --walk --walk-steps 4 --walk-temperature 0.02 --walk-anchor-share 0.1 --walk-weight 0.75"
    assert cli.main(["train", "compact", "--out", str(tmp_path / "run"), *TINY, *options.split()]) == 0
    assert "walked classes" in capsys.readouterr().out
    assert [settings["steps"] for settings in seen] == [2, 4, 4]
    assert seen[-1]["temperature"] == 0.02 and seen[-1]["anchor_share"] == 0.1
    walk = json.loads((tmp_path / "run/compact.json").read_text())["training"]["walk"]
    assert walk == {"steps": 4, "temperature": 0.02, "anchor_share": 0.1, "weight": 0.75}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "steps: expected 1 or more, got 0"),
        (["--batch", "0"], "batch: expected 1 or more, got 0"),
        (["--seed", "-1"], "seed: expected 0 or more, got -1"),
        (["--learning-rate", "0"], "learning_rate: expected a finite number > 0, got 0.0"),
        (["--size", "40", "64"], "size: expected height and width, positive multiples of 32, got (40, 64)"),
        (["--scenes", "0"], "scenes: expected 1 or more without photos, got 0; give photos, or render scenes"),
        (["--photos", "PHOTOS"], "teacher: expected photos and their teacher together, got photos alone"),
        (["--teacher", "WEIGHTS"], "teacher: expected photos and their teacher together, got a teacher alone"),
        (["--photos", "nowhere", "--teacher", "WEIGHTS"], "nowhere: no such file or folder"),
        (["--photos", "PHOTOS", "--teacher", "t.npz"], "t.npz"),
        (["--initial-weights", "WEIGHTS"], "weights of another network"),
        (["--initial-weights", "s.npz"], "s.npz"),
        (["--device", "abacus"], "--device: "),
        (["--threads", "0"], "--threads: expected 1 or more, got 0"),
        (["--walk-steps", "3"], "--walk-steps: a setting of the walk, and nothing walks; give --walk too"),
        (["--walk", "--walk-steps", "0"], "--walk-steps: expected 1 or more, got 0"),
        (["--walk", "--walk-temperature", "0"], "--walk-temperature: expected "),
        (["--walk", "--walk-anchor-share", "2"], "--walk-anchor-share: expected "),
        (["--walk", "--walk-weight", "2"], "--walk-weight: expected a number in [0, 1], got 2.0"),
    ],
)
def test_refused_before_any_work(arguments, message, photos, weights, tmp_path, capsys):
    places = {"PHOTOS": str(photos), "WEIGHTS": str(weights)}
    out = tmp_path / "run"
    assert cli.main(["train", "compact", *(places.get(word, word) for word in arguments), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not any(file.is_file() for file in out.rglob("*"))


def test_training_that_diverges(tmp_path, capsys):
    arguments = [*TINY, "--learning-rate", "1e30", "--steps", "40"]
    assert cli.main(["train", "compact", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert "--learning-rate: the gradients of 20 steps in a row are not finite" in capsys.readouterr().err
    assert not (tmp_path / "run/compact.npz").exists()


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """Killed again and again, a training comes to the end that it comes to in one go."""
    program = "import sys; from rwpm_fast.training import run; run.SAVE_SECONDS = 0.5; "
    program += "from rwpm_fast.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "train", "compact", *TINY, "--steps", "60", "--out"]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    kills = 0
    for seconds in np.linspace(3, 6, 7):
        process = subprocess.Popen([*command, tmp_path / "killed"], stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    subprocess.run([*command, tmp_path / "killed"], check=True, capture_output=True)
    assert kills and equal(tmp_path / "whole", tmp_path / "killed")
    assert not list((tmp_path / "killed").rglob("*.tmp"))


@pytest.mark.slow
def test_torchrun_shares_the_training(photos, weights, tmp_path):
    """Two processes prepare, train, write once, and go on."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "rwpm_fast"]
    command = [*launch, "train", "compact", *TINY, "--photos", photos, "--teacher", weights, "--out", tmp_path / "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for lines in (1, 0):
        done = subprocess.run([*command, "--steps", "3"], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("step 3: ") == lines and done.stdout.count("weights and curves") == 1
    CompactNet.load(tmp_path / "run/compact.npz")
    assert len(list((tmp_path / "run/work/samples").iterdir())) == 2
