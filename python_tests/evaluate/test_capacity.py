"""Score maps that memory does not hold: the same numbers from a temporary folder, which an interrupted run can use."""

import gc

import numpy as np
import pytest
from PIL import Image

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import cli
from rwpm_fast.data import Frame, LabelValues
from rwpm_fast.evaluate import ConfigError, capacity, evaluate, from_environment, launch
from rwpm_fast.evaluate.cache import MemoryCache, TemporaryCache
from rwpm_fast.evaluate.capacity import score_map_bytes
from rwpm_fast.ops.maps import Walk
from rwpm_fast.scoring.scorer import Scorer

NEED = 4 * 4 * 4 * 16 * 24  # bytes of 4 photos, each with 2 scorers and 2 scores


@pytest.fixture
def frames(tmp_path):
    """Four photos of 16x24 and their labels, in images/ and labels/."""
    random = np.random.default_rng(0)
    frames = []
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for index in range(4):
        photo, label = (tmp_path / part / f"{index}.png" for part in ("images", "labels"))
        Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(photo)
        Image.fromarray(random.choice(np.array([0, 1, 255], np.uint8), (16, 24))).save(label)
        frames.append(Frame(f"{index}", photo, label, LabelValues.from_values()))
    return frames


@pytest.fixture
def spill(tmp_path, monkeypatch):
    """The place for temporary folders; memory is said to hold a byte less than what is needed."""
    (tmp_path / "spill").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spill"))
    monkeypatch.setattr(capacity, "available_memory", lambda: 2 * NEED - 2)
    return tmp_path / "spill"


def test_the_need_is_that_of_all_maps(frames, tmp_path):
    assert score_map_bytes(frames, 4) == NEED
    assert score_map_bytes([*frames, Frame("x", tmp_path / "none.png", None, LabelValues.from_values())], 4) > NEED
    halved = Frame("h", tmp_path / "none.png", None, LabelValues.from_values(), size=(8, 24))
    assert score_map_bytes([halved] * 100, 1) == 100 * 4 * 8 * 24
    overlay = Frame("o", tmp_path / "o.npz", None, LabelValues.from_values(), background=frames[0].photo)
    assert score_map_bytes([overlay], 1) == 4 * 16 * 24
    assert score_map_bytes([], 4) == 0


def swept(frames, network=None, **settings):
    scorer = Scorer(network or TinyNetwork(), walk=Walk(steps=3))
    return evaluate(scorer, frames, track="obstacle_track", **settings)


def figures(sweep):
    return repr([sweep.results, sweep.binned, sweep.components, [image.results for image in sweep.images]])


def test_every_figure_is_the_same(frames, spill, monkeypatch):
    messages = []
    spilled = swept(frames, on_remark=messages.append)
    (folder,) = spill.iterdir()
    assert len(list(folder.glob("*.npz"))) == 4 * 2
    assert len(messages) == 1 and f"they are in {folder} until the end" in messages[0]
    assert "4 photos" in messages[0] and f"--cache {folder}" in messages[0]

    monkeypatch.setattr(capacity, "available_memory", lambda: 2 * NEED)
    held = swept(frames, on_remark=messages.append)
    assert isinstance(held.cache, MemoryCache) and isinstance(spilled.cache, TemporaryCache) and len(messages) == 1
    assert figures(spilled) == figures(held)
    for one, other in zip(spilled.images, held.images, strict=True):
        maps = (sweep.score_map(image, "with", "energy") for sweep, image in ((spilled, one), (held, other)))
        np.testing.assert_array_equal(*maps)

    del spilled, one, maps  # the folder goes with what refers to it
    gc.collect()
    assert not list(spill.iterdir())


@pytest.mark.parametrize("late", [False, True], ids=["while scoring", "after the last photo"])
def test_a_run_that_died_goes_on(frames, spill, monkeypatch, late):
    network = TinyNetwork()
    with monkeypatch.context() as patch:
        if late:
            patch.setattr("rwpm_fast.evaluate.runner.pooled_metrics", lambda *_, **__: bytearray(2**62))
        else:
            network.stop_after = 2
        with pytest.raises(MemoryError if late else KeyboardInterrupt):
            swept(frames, network)
    gc.collect()
    (folder,) = spill.iterdir()
    assert len(list(folder.glob("*.npz"))) == (8 if late else 4)

    network = TinyNetwork()
    resumed = swept(frames, network, cache=folder)
    assert network.passes == (0 if late else 2)
    assert figures(resumed) == figures(swept(frames))


def test_no_room_anywhere_is_said_before_any_work(frames, spill, monkeypatch):
    monkeypatch.setattr(capacity.shutil, "disk_usage", lambda _: capacity.shutil._ntuple_diskusage(9, 9, NEED - 1))
    network = TinyNetwork()
    with pytest.raises(ConfigError, match=r"^cache: the score maps of 4 photos take some 0.0 GiB; .* name a folder"):
        swept(frames, network)
    assert network.passes == 0 and not list(spill.iterdir())


def share(frames, spilled):
    """Evaluate in one of several processes; the figures, and the folders that were there."""
    with from_environment() as processes:
        if spilled:
            capacity.available_memory = lambda: 0
        messages = []
        sweep = swept(frames, processes=processes, on_remark=messages.append)
        folders = [message.split(" they are in ")[1].split()[0] for message in messages]
        return figures(sweep), folders, type(sweep.cache).__name__


@pytest.mark.slow
def test_processes_spill_to_one_folder(frames, spill):
    in_memory, folders, kind = launch(2, share, frames, False)
    assert (folders, kind) == ([], "MemoryCache")
    spilled, folders, kind = launch(2, share, frames, True)
    assert spilled == in_memory and len(folders) == 1 and kind == "TemporaryCache"
    assert not list(spill.iterdir())


def test_the_command_says_where_the_maps_are(frames, spill, monkeypatch, capsys):
    monkeypatch.setattr(capacity, "available_memory", lambda: 0)
    parent = spill.parent
    data = ["--images", parent / "images", "--labels", parent / "labels", "--scores", "energy", "--components"]
    files = ["--csv-photos", parent / "photos.csv", "--html", parent / "report.html"]
    arguments = [str(word) for word in (*data, "obstacle_track", "--steps", 2, "--threads", 1, *files)]
    assert cli.main(["evaluate", *arguments]) == 0
    out, err = capsys.readouterr()
    assert "the score maps of 4 photos take some 0.0 GiB" in err and f"they are in {spill}" in err
    assert "| SMIYC AP | SMIYC FPR95 |" in out and "as SegmentMeIfYouCan's toolkit prints them" in out
    assert len((parent / "photos.csv").read_text().splitlines()) == 1 + 3 * 4
    gc.collect()
    assert (parent / "report.html").exists() and not list(spill.iterdir())
