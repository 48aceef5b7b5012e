"""Whatever becomes of what a command prints, its work is done, and its status and last words are those of a shell tool.

Each command runs in a process of its own to its very end, since Python writes what is buffered when it ends. The
processes are forked from one that has torch: that makes the matrix cheap.
"""

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("h5py")
pytest.importorskip("matplotlib")

NAMES = ["ü.png", os.fsdecode(b"raw\xff.png"), "line\nbreak \x1b[31m.png"]

DRIVER = """
import json, os, sys
import h5py, matplotlib.backends.backend_agg, torch
from rwpm_fast import benchmark, demo, evaluate, submission
from rwpm_fast.cli import main
from rwpm_fast.evaluate import report
torch.set_num_threads(1)
case = json.load(sys.stdin)
statuses = {}
for name, words in case["commands"].items():
    child = os.fork()
    if not child:
        os.dup2(os.open(f"{name}.err", os.O_CREAT | os.O_WRONLY), 2)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        number = {"out": 1, "err": 2}[case["which"]]
        if case["kind"] == "closed":
            os.close(number)
        elif case["kind"] == "left":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, number)
        else:
            path = "/dev/full" if case["kind"] == "full" else f"{name}.out"
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
        encoding = "ascii" if case["kind"] == "ascii" else "utf-8"
        stream = None if case["kind"] == "closed" else open(number, "w", encoding=encoding, closefd=False)
        setattr(sys, f"std{case['which']}", stream)
        sys.exit(main(words))
    statuses[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(statuses))
"""


@pytest.fixture
def place(tmp_path):
    """Photos of odd names with labels, and a data set in a folder of an odd name."""
    random = np.random.default_rng(0)
    track = tmp_path / os.fsdecode(b"tr\xc3\xa4ck\xff") / "dataset_ObstacleTrack"
    for folder in (tmp_path / "images", tmp_path / "labels", track / "images", track / "labels_masks"):
        folder.mkdir(parents=True)
    labels = Image.fromarray(np.tri(48, 64, dtype=np.uint8))
    for name in NAMES:
        with open(tmp_path / "images" / name, "wb") as photo, open(tmp_path / "labels" / name, "wb") as label:
            Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(photo, "png")
            labels.save(label, "png")
    with open(track / "images/validation_1.webp", "wb") as photo:
        Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(photo, "webp")
    with open(track / "labels_masks/validation_1_labels_semantic.png", "wb") as label:
        labels.save(label, "png")
    return tmp_path


COMMANDS = {
    "score": "score images --out maps",
    "check": "check obstacle_track TRACK --split all",
    "evaluate": "evaluate --images images --labels labels --scores energy --json e.json --csv e.csv --html e.html",
    "submit": "submit smiyc obstacle_track TRACK files --split all --name ours",
    "info": "info",
    "bench": "bench --pixels 64 --channels 4 --value-channels 1 --rounds 1 --no-memory "
    "--contenders exact-* --json b.json",
    "demo": "demo --photo images/ü.png --out demo",
    "help": "score --help",
}
RESULTS = ["b.json", "demo/panel.png", "demo/report.html", "e.csv", "e.html", "e.json"]


def drive(place, which, kind, commands):
    """Run commands with a standard stream of a kind; statuses, and what each wrote to standard error."""
    track = next(path for path in place.iterdir() if path.name.startswith("tr"))
    words = {name: [str(track) if w == "TRACK" else w for w in text.split()] for name, text in commands.items()}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps({"commands": words, "which": which, "kind": kind}),
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    errors = {name: (place / f"{name}.err").read_text(errors="replace") for name in commands}
    assert not [text for text in errors.values() if "Traceback" in text or "Exception ignored" in text], errors
    return json.loads(done.stdout.splitlines()[-1]), errors


def assert_all_there(place):
    assert sorted(path.suffix for path in (place / "maps").iterdir()) == [".npy"] * 3 + [".png"] * 3
    assert all((place / name).stat().st_size for name in RESULTS)
    assert len(list((place / "files").rglob("*.hdf5"))) == 1
    assert json.loads((place / "e.json").read_text())["failures"] == {}


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", ["full", slow("left"), slow("ascii"), slow("closed")])
def test_work_is_done_whatever_becomes_of_the_output(place, kind):
    statuses, errors = drive(place, "out", kind, COMMANDS)
    assert_all_there(place)
    assert set(statuses.values()) == {1 if kind == "full" else 0}, (statuses, errors)
    del errors["bench"]  # tells its progress there
    if kind == "full":
        assert all(text.startswith("rwpm-fast: standard output: No space left on device; ") for text in errors.values())
        assert all(len(text.splitlines()) == 1 for text in errors.values())
    else:
        assert set(errors.values()) == {""}
    if kind == "ascii":
        printed = {name: (place / f"{name}.out").read_bytes().decode("ascii") for name in COMMANDS}
        assert [line.split("  ")[0] for line in printed["score"].splitlines()] == [
            "line\\nbreak \\x1b[31m.png",
            "raw\\udcff.png",
            "\\xfc.png",
        ]
        assert "tr\\xe4ck\\udcff" in printed["check"] and all(printed.values())


@pytest.mark.parametrize("kind", ["full", slow("left"), slow("closed")])
def test_work_is_done_whatever_becomes_of_the_messages(place, kind):
    (place / "images/0.png").write_text("no picture")
    statuses, _ = drive(place, "err", kind, {"score": "score images --out maps", "bad": "score nowhere --out maps"})
    assert statuses == {"score": 1, "bad": 2}
    assert len(list((place / "maps").iterdir())) == 6


@pytest.mark.slow
def test_work_of_several_processes_is_done(place):
    (place / "images/0.png").write_text("no picture")
    (place / "labels/0.png").write_text("no picture")
    statuses, errors = drive(place, "out", "full", {"evaluate": COMMANDS["evaluate"] + " --processes 2"})
    assert statuses == {"evaluate": 1} and errors["evaluate"].count("No space left on device") == 1
    assert len(json.loads((place / "e.json").read_text())["failures"]) == 1
    assert (place / "e.html").stat().st_size
    assert errors["evaluate"].count("0.png") == 1


def test_a_failure_stays_one(place):
    """A photo that fails is told in one line, whatever its name, and the others are scored."""
    (place / "images" / "good.png").write_bytes((place / "images" / NAMES[0]).read_bytes())
    for name in NAMES:
        (place / "images" / name).write_text("no picture")
    statuses, errors = drive(place, "out", "full", {"score": "score images --out maps --no-panel"})
    assert statuses == {"score": 1} and [path.name for path in (place / "maps").iterdir()] == ["good.npy"]
    assert [line.partition(":")[0] for line in errors["score"].splitlines()[:3]] == [
        "images/line\\nbreak \\x1b[31m.png",
        "images/raw\\udcff.png",
        "images/ü.png",
    ]
    assert "3 failed" in errors["score"]
