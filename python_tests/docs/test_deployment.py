"""The guide "Ship it" to the letter: its commands in a shell, one after the other, as a user would type them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwpm_fast.scenes import render_scene

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide" / "deployment.md"


def commands():
    """The shell blocks of the page under their headings."""
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]:
        heading, _, text = section.partition("\n")
        for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.M | re.S):
            yield heading, block


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a checkout, a photo and a folder of photos."""
    folder = tmp_path_factory.mktemp("deployment")
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder / "rwpm_fast", ignore=ignored)
    (folder / "images").mkdir()
    photo = Image.fromarray(render_scene(np.random.default_rng(1), (180, 320))[0])
    photo.save(folder / "street.png")
    photo.save(folder / "images" / "street.png")
    return folder


def run(place, script):
    # The checkout is beside, not in front of, the package that runs.
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-euc", script], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_whole_page(place):
    maps = {}
    for heading, script in commands():
        run(place, script)
        if (place / "maps" / "street.npy").exists():
            maps[heading] = np.load(place / "maps" / "street.npy")
            (place / "maps" / "street.npy").unlink()
    assert list(maps) == ["ONNX Runtime", "AOTInductor, in Python", "AOTInductor, without Python"]
    by_onnx, by_package, without_python = maps.values()
    assert np.array_equal(by_package, without_python)
    assert np.abs(by_onnx - by_package).max() <= 1e-4 * np.abs(by_package).max()
    assert np.load(place / "walked.npy").shape == (6000, 160)
    assert (place / "build" / "example" / "example").exists()
    formats = json.loads((place / "formats.json").read_text())["formats"]
    assert [result["name"] for result in formats if result["reason"] is not None] == []
