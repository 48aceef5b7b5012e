"""``rwpm-fast train synboost | resynthesis``: a training in miniature, killed and resumed, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from python_tests.synboost.test_annotated import cityscapes  # noqa: F401  # a fixture
from rwpm_fast import Scorer, cli, networks
from rwpm_fast.cli.train_synboost import SMALL
from rwpm_fast.networks.checkpoint import read_state_dict
from rwpm_fast.synboost import load, methods
from rwpm_fast.synboost.dissimilarity import DissimilarityNet
from rwpm_fast.synboost.light_generator import LightGenerator

TINY = [
    *("--scenes", "4", "--size", "32", "64", "--width", "2", "--epochs", "2", "--generator-steps", "2"),
    *("--threads", "1", "--holdout", "2"),
]


@pytest.mark.parametrize("method", ["synboost", "resynthesis"])
def test_training_in_miniature(method, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", method, "--out", str(out), *TINY]) == 0
    printed = capsys.readouterr()
    assert "epoch 2: loss " in printed.out and "2 rendered scenes that were not trained on" in printed.err
    maps = ["anomaly", "ensemble"] if method == "resynthesis" else ["anomaly", "entropy", "perceptual", "distance"]
    assert all(f"| {name} | " in printed.out for name in maps)

    flags = {} if method == "synboost" else {"dispersion": False, "spade": False}
    DissimilarityNet.load(out / f"{method}.npz", **flags, width=2)
    LightGenerator.load(out / "generator.npz")
    assert {str(array.dtype) for array in np.load(out / f"{method}.npz").values()} == {"float16"}
    record = json.loads((out / f"{method}.json").read_text())
    assert record["method"] == method and record["size"] == [32, 64] and len(record["epochs"]) == 2
    assert sum(record["ensemble_weights"]) == pytest.approx(1)
    assert (record["synthesis"], record["features"]) == ("light", "network")
    pipeline = load(method, Scorer(networks.load("compact")), trained=out)
    assert pipeline.weights == tuple(record["ensemble_weights"]) and pipeline.size == (32, 64)
    with open(out / f"{method}_curves.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "2"] and float(rows[1]["training_loss"]) > 0
    assert Image.open(out / f"{method}_curves.png").width == 1000

    # Again: everything is there.
    before = (out / f"{method}.npz").read_bytes()
    assert cli.main(["train", method, "--out", str(out), *TINY]) == 0
    assert (out / f"{method}.npz").read_bytes() == before and "epoch" not in capsys.readouterr().out


def test_the_small_width_is_that_of_the_own_weights():
    assert SMALL["width"] == methods.WIDTH


def test_training_that_diverges(tmp_path, capsys):
    arguments = [*TINY, "--learning-rate", "1e30"]
    assert cli.main(["train", "synboost", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert "--learning-rate: the loss is nan in epoch 1; the learning rate 1e+30 may be" in capsys.readouterr().err
    assert not (tmp_path / "run/synboost.npz").exists()


def test_cityscapes(cityscapes, tmp_path, capsys):  # noqa: F811
    arguments = [*TINY[2:], "--cityscapes", str(cityscapes), "--learning-rate", "1e-3", "--holdout", "0"]
    assert cli.main(["train", "synboost", "--out", str(tmp_path / "run"), *arguments]) == 0
    assert "rendered scenes" not in capsys.readouterr().err
    names = json.loads((tmp_path / "run/work/training-examples/examples.json").read_text())["names"]
    assert names[0] == "aachen_000000_000019_swapped" and len(names) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synboost", "--scenes", "0"], "count: expected 1 or more scenes, got 0"),
        (["synboost", "--scenes", "1"], "expected two photos or more"),
        (["synboost", "--scenes", "4", "--cityscapes", "x"], "--cityscapes: expected either --scenes or --cityscapes"),
        (["synboost", "--cityscapes", "nowhere"], "no photos in nowhere/leftImg8bit/train"),
        (["synboost", "--generator", "g.pth"], "--image-encoder: expected --generator and --image-encoder together"),
        (
            ["synboost", "--generator", "g.pth", "--image-encoder", "e.pth", "--generator-steps", "9"],
            "--generator-steps: with --generator no light generator is trained; leave one of them out",
        ),
        (["resynthesis", "--vgg19", "v.pth"], "--vgg19: resynthesis does not read it; leave it out"),
        (["synboost", "--epochs", "0"], "epochs: expected 1 or more, got 0"),
        (["synboost", "--generator-steps", "0"], "steps: expected 1 or more, got 0"),
        (["synboost", "--width", "3"], "width: expected an even number above 0, got 3"),
        (["synboost", "--size", "40", "64"], "size: expected height and width, positive multiples of 32, got"),
        (["synboost", "--vgg19", "v.pth"], "v.pth"),
        (["synboost", "--vgg16", "v.pth"], "v.pth"),
    ],
)
def test_refused_before_any_work(arguments, message, tmp_path, capsys):
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists() or not any(file.is_file() for file in (tmp_path / "run").rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["other"], r"METHOD: invalid choice: 'other' \(choose from '?synboost'?, '?resynthesis'?, '?compact'?\)"),
        ([], "the following arguments are required: METHOD"),
        (["synboost"], "the following arguments are required: --out"),
    ],
)
def test_methods(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", *arguments])
    assert re.search(message, capsys.readouterr().err)


def test_cuda_is_the_gpu_of_this_process(tmp_path, capsys, monkeypatch):
    for name, value in {"RANK": "99", "LOCAL_RANK": "99", "WORLD_SIZE": "100"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["train", "synboost", "--out", str(tmp_path / "run"), *TINY, "--device", "cuda"]) == 2
    assert "--device: 'cuda:99' cannot be used" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """Killed again and again, a training comes to the end that it comes to in one go."""
    command = [sys.executable, "-m", "rwpm_fast", "train", "synboost", *TINY, "--out"]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    kills = 0
    for seconds in np.linspace(4, 12, 9):
        process = subprocess.Popen([*command, tmp_path / "killed"], stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    subprocess.run([*command, tmp_path / "killed"], check=True, capture_output=True)
    assert kills
    one, other = (read_state_dict(tmp_path / name / "synboost.npz") for name in ("whole", "killed"))
    assert all((one[name] == other[name]).all() for name in one)
    assert not list((tmp_path / "killed").rglob("*.tmp"))


@pytest.mark.slow
def test_ensemble_beats_entropy(tmp_path, capsys):
    """The documented training in miniature, some six minutes on two cores."""
    small = [
        *("--scenes", "150", "--size", "128", "256", "--generator-steps", "300", "--epochs", "4"),
        "--half-precision",
    ]
    assert cli.main(["train", "synboost", "--out", str(tmp_path / "run"), *small]) == 0
    rows = dict(
        line.strip("| ").split(" | ", 1) for line in capsys.readouterr().out.splitlines() if "%" in line and "|" in line
    )
    entropy, ensemble = (float(rows[name].split(" | ")[1].rstrip("%")) for name in ("entropy", "ensemble"))
    assert ensemble > 1.5 * entropy
    record = json.loads((tmp_path / "run/synboost.json").read_text())
    assert record["epochs"][-1]["training_loss"] < 0.8 * record["epochs"][0]["training_loss"]
