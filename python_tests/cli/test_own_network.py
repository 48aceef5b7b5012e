"""Networks of the user's own on the command line: scored, evaluated, submitted and exported."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rwpm_fast import Scorer, Walk, attach, cli
from rwpm_fast.ops.settings import command_settings

BUILD = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.ReLU(), nn.Conv2d(6, 5, 1))
"""
OWN = ("--embedding", "1", "--head", "2", "--mean", "0.5", "0.5", "0.5", "--std", "0.2", "0.2", "0.2")
PROTOCOL = ("--size", "32", "64", "--leave-out", "class 4")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for name, values in {"images": (48, 64, 3), "labels": (48, 64)}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(random.integers(0, 256 if len(values) == 3 else 2, values, dtype=np.uint8)).save(
            tmp_path / name / "0001_a.png"
        )
    (tmp_path / "mine.py").write_text(BUILD)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before


def run(*words):
    return cli.main([str(word) for word in words])


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.ReLU(), nn.Conv2d(6, 5, 1))
    return attach(model, "1", "2", mean=(0.5,) * 3, std=(0.2,) * 3, size=(32, 64), leave_out=[4])


def test_score(folder):
    assert run("score", "images", "--network", "mine.py:build", *OWN, *PROTOCOL, "--steps", 2, "--out", "out") == 0
    scorer = Scorer(network(), walk=Walk(**vars(command_settings({"steps": 2}, anchor_share=0.0))))
    photo = np.asarray(Image.open("images/0001_a.png"))
    np.testing.assert_allclose(np.load("out/0001_a.npy"), scorer(photo).score.numpy(), atol=1e-5)


def test_evaluate(folder, capsys):
    words = ("--network", "mine.py:build", *OWN, *PROTOCOL, "--images", "images", "--labels", "labels", "--steps", 2)
    assert run("evaluate", *words, "--json", "r.json", "--html", "r.html", "--cache", "cache") == 0
    record = json.loads((folder / "r.json").read_text())
    assert record["settings"]["network_settings"]["size"] == [32, 64]
    assert "--embedding 1 --head 2" in record["command"] and "--leave-out 'class 4'" in record["command"]
    assert "mine.py:build" in (folder / "r.html").read_text()
    kept = set((folder / "cache").iterdir())
    assert run("evaluate", *[word for word in words if word not in ("--leave-out", "class 4")], "--cache", "cache") == 0
    assert not kept & (set((folder / "cache").iterdir()) - kept) and len(set((folder / "cache").iterdir())) > len(kept)


def test_submit(folder):
    words = ("submit", "fishyscapes", "images", "sent", "--network", "mine.py:build", *OWN, "--steps", 2)
    assert run(*words) == 0
    assert np.load("sent/0001_anomaly.npy").shape == (48, 64)


def test_export(folder, capsys):
    pytest.importorskip("onnxruntime")
    words = ("export", "mine.py:build", "--format", "onnx", "--out", "exports", *OWN, *PROTOCOL, "--steps", 1)
    photo = np.random.default_rng(1).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    Image.fromarray(photo).save("photo.png")
    assert run(*words, "--photo", "photo.png") == 0, capsys.readouterr().err
    assert (folder / "exports" / "mine-build.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "mine.py:build"), "embedding: expected the paths of two modules of mine.py:build"),
        (("--network", "mine.py:made", *OWN), "network: mine.py has no 'made'; it has build"),
        (("--network", "yours.py:build", *OWN), "network: no such file: yours.py"),
        (("--network", "no.such.module:build", *OWN), "network: no module 'no.such.module'"),
        (("--embedding", "1", "--head", "2"), "embedding: expected only with a module of your own"),
        (("--leave-out", "void"), "leave_out: expected names of classes"),
    ],
)
@pytest.mark.parametrize("command", ["score images --out out", "evaluate --images images --labels labels"])
def test_errors(folder, capsys, command, words, message):
    assert run(*command.split(), *words) == 2
    assert message in capsys.readouterr().err
