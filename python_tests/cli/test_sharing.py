"""Photos that several processes share: the files of one process to the last byte, and what is said once."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rwpm_fast import cli


@pytest.fixture
def folder(tmp_path):
    """Five photos for Fishyscapes, one of them broken, and eleven frames of the Anomaly track, all but one labeled."""
    random = np.random.default_rng(0)
    track = tmp_path / "dataset_AnomalyTrack"
    for place in ("in", "dataset_AnomalyTrack/images", "dataset_AnomalyTrack/labels_masks"):
        (tmp_path / place).mkdir(parents=True)
    for number in range(5):
        photo = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / f"in/000{number}_x.png")
    (tmp_path / "in/0003_x.png").write_bytes(b"no picture")
    for number in range(11):
        name = f"validation{number:04}" if number else "0000"
        photo = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(photo).save(track / f"images/{name}.png")
        truth = np.zeros((40, 56), np.uint8)
        truth[10:20, number : number + 20], truth[-4:] = 1, 255
        if number:
            Image.fromarray(truth).save(track / f"labels_masks/{name}_labels_semantic.png")
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(capfd, *words):
    status = cli.main([str(word) for word in words])
    return status, *capfd.readouterr()


COMMANDS = {
    "score": ("score", "{in}", "--out", "{out}", "--no-panel"),
    "fishyscapes": ("submit", "fishyscapes", "{in}", "{out}"),
    "smiyc": (
        "submit",
        "smiyc",
        "anomaly_track",
        "{root}",
        "{out}",
        "--name",
        "mine",
        "--split",
        "all",
        "--masks",
        "-3",
    ),
}
SETTINGS = ("--steps", "2", "--threads", "1")


def words(command, root, out):
    places = {"{in}": root / "in", "{root}": root, "{out}": out}
    return [str(places.get(word, word)) for word in (*COMMANDS[command], *SETTINGS)]


def told(out, place):
    """What was printed, without times and the folder of the results, in any order."""
    return sorted(line.split("  ")[0].replace(str(place), "OUT") for line in out.splitlines())


@pytest.mark.parametrize("command", ["score", "smiyc", pytest.param("fishyscapes", marks=pytest.mark.slow)])
def test_two_processes_write_and_say_what_one_does(capfd, folder, command):
    if command == "smiyc":
        pytest.importorskip("h5py")
    one, two = folder / "one", folder / "two"
    status, out, err = run(capfd, *words(command, folder, one))
    assert status == (0 if command == "smiyc" else 1)
    shared = run(capfd, *words(command, folder, two), "--processes", 2)
    assert (shared[0], told(shared[1], two), told(shared[2], two)) == (status, told(out, one), told(err, one))
    assert contents(two).keys() == contents(one).keys() and contents(two) == contents(one)
    if command == "smiyc":
        assert "11 maps written" in out and err.count("110 are published, 11 are here") == 1
    else:
        assert err.count("0003_x.png: not a picture") == 1


def test_a_submission_goes_on_where_it_stopped(capfd, folder):
    """The rescaling is fitted once, on frames of the first run, and what was written stays as it was."""
    pytest.importorskip("h5py")
    out = folder / "out"
    run(capfd, *words("smiyc", folder, out))
    whole = contents(out)
    for name in ("validation0003", "0000"):
        (out / f"anomaly_p/mine/AnomalyTrack-all/{name}.hdf5").unlink()
    status, text, _ = run(capfd, *words("smiyc", folder, out))
    assert status == 0 and "2 maps written" in text and "9 were there" in text and contents(out) == whole
    assert "11 maps written" in run(capfd, *words("smiyc", folder, out), "--force")[1] and contents(out) == whole


@pytest.mark.slow
def test_two_processes_of_torchrun(capfd, folder):
    (folder / "in/0003_x.png").unlink()  # torchrun takes any status for a crash
    assert run(capfd, *words("score", folder, folder / "one"))[0] == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "rwpm_fast"]
    done = subprocess.run(
        [*launcher, *words("score", folder, folder / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert contents(folder / "two") == contents(folder / "one")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_number_of_processes_that_there_cannot_be(capfd, folder, command):
    status, out, err = run(capfd, *words(command, folder, folder / "one"), "--processes", 0)
    assert (status, out) == (2, "") and "--processes: expected 1 or more, got 0" in err
    assert not (folder / "one").exists()
