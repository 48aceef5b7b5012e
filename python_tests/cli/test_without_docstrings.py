"""Every command runs where Python drops docstrings and assertions (-OO)."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bench
import rwpm_fast
from rwpm_fast.cli import COMMANDS

SMOKE = {
    "score": "score a.png --out out --steps 2",
    "stream": "stream in --all-frames --save-scores scores --json frames.jsonl --chart latency.png --steps 2",
    "check": "check obstacle_track . --split all",
    "evaluate": "evaluate --images a.png --labels . --steps 2 --scores energy --html out/e.html",
    "temporal": "temporal --drives 1 --frames 2 --size 32 64 --steps 1 --cost 0",
    "submit": "submit fishyscapes in out --steps 2",
    "train": "train resynthesis --scenes 2 --size 32 64 --width 2 --epochs 1 --generator-steps 1 --holdout 0 --out t",
    "train compact": "train compact --scenes 1 --size 32 64 --steps 1 --batch 1 --out c",
    "export": "export compact --format onnx --out exports --steps 1",
    "figure": "figure tighten a.png --out figure.png --steps 1",
    "benchmark": "benchmark compact --formats eager --size 64 96 --rounds 1 --steps 1",
    "demo": "demo --photo a.png --steps 2 --out out",
    "bench": "bench --pixels 64 --channels 4 --value-channels 1 --rounds 1 --no-memory --contenders exact-*",
    "serve": "serve --port 0 --steps 1 --stop-after 0.1",
    "info": "info",
}
QUICK = [name for name in SMOKE if name != "export"]
RUN = """
import sys
from rwpm_fast.cli import main
assert False  # dropped as well
for words in sys.argv[1:]:
    assert_ = main(words.split())
    print(f"status {assert_}")
"""


@pytest.mark.parametrize("names", [QUICK, pytest.param(["export"], marks=pytest.mark.slow)], ids=["quick", "export"])
def test_every_command_runs(tmp_path, names):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    for name in ("images/validation_1.webp", "in/0001_a.png", "a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photo.save(tmp_path / name)
    (tmp_path / "labels_masks").mkdir()
    Image.fromarray(np.tri(48, 64, dtype=np.uint8)).save(tmp_path / "labels_masks/validation_1_labels_semantic.png")
    words = [text.replace("--labels .", "--labels labels") for name, text in SMOKE.items() if name in names]
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.tri(48, 64, dtype=np.uint8)).save(tmp_path / "labels/a.png")
    environment = {**os.environ, "PYTHONOPTIMIZE": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert {name.split()[0] for name in SMOKE} == COMMANDS.keys()
    assert done.returncode == 0 and done.stdout.count("status 0") == len(names), done.stdout + done.stderr


def test_no_text_is_taken_from_docstrings():
    for package in (rwpm_fast, bench):
        for file in Path(package.__file__).parent.rglob("*.py"):
            names = [node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)]
            assert "__doc__" not in names, file
