"""``python -m bench.frame_share``: what is walked, left out and refused, and the table and record of small photos."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bench.frame_share import __main__ as command
from bench.frame_share import frames, walks
from bench.report import render
from python_tests.helpers import manifold, relative_error
from rwpm_fast import Walk, reference
from rwpm_fast.benchmark import CpuDevice, Limits
from rwpm_fast.networks import CompactNet, Encoded, MaskLogits, Network
from rwpm_fast.presets import preset


def run(capsys, *arguments):
    status = command.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)).save(file)
    return file


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "real.npz"
    np.savez(file, embedding=manifold(9, 16, 24, directions=40).permute(2, 0, 1).numpy())
    return file


@pytest.fixture
def task():
    """Make a walk of a map [V, 48, 30, 40] with so many parts and views; uncut its graph is sparse."""

    def make(parts=1, views=1):
        maps = manifold(views, 30, 40, 48, directions=80, noise=0.6).permute(0, 3, 1, 2).contiguous()
        return walks.Task("masks", maps, maps[:, :21] * 2, Walk(parts=parts, tolerance=1e-4))

    return make


class Masks(Network):
    """A mask head on two views; 16 x 16 pixels become one."""

    name, stride, linear_head, mask_head, mirrored = "mask2anomaly", 16, False, True, True
    classes, default_score = ("road", "sky"), "rba"

    def preprocess(self, photos):
        return photos.float()

    def encode(self, images):
        return Encoded(F.avg_pool2d(images, 16).repeat(1, 2, 1, 1))  # [2, 6, h, w]

    def decode(self, embedding_map, context=None):
        return MaskLogits(torch.ones(len(embedding_map), 5, 3), embedding_map[:, :5])


def test_own_and_random_weights(capsys, tmp_path, photo, source):
    file = tmp_path / "new" / "record.json"
    words = ["--networks", "compact", "dabnet", "--sizes", "96x64", "64x64", "--rounds", 2, "--threads", 1]
    status, out, _ = run(capsys, *words, "--photo", photo, "--embeddings", source, "--json", file)
    made = json.loads(file.read_text())
    assert status == 0 and {"commit", "machine", "limits", "notes"} <= made.keys()
    assert made["command"].startswith(
        "python -m bench.frame_share --networks compact dabnet --sizes 96x64 64x64 --photo "
    )
    shown = [(case["network"], case["photo"], case["map"], case["embeddings"]) for case in made["cases"]]
    own = "the network's own"
    assert shown == [
        ("compact", [64, 64], [1, 160, 8, 8], own),
        ("compact", [96, 64], [1, 160, 8, 12], own),
        ("dabnet", [64, 64], [1, 259, 8, 8], "real.npz"),
        ("dabnet", [96, 64], [1, 259, 8, 12], "real.npz"),
    ]
    assert [case["weights"] for case in made["cases"]] == ["the package's"] * 2 + ["random"] * 2
    for case in made["cases"]:
        (row,) = case["rows"]
        assert row["matched"] and row["error"] <= row["bound"] and len(row["runs"]) == len(case["network_runs"]) == 2
        assert (row["walked"], row["value_channels"], row["parts"], row["steps"]) == ("logits", 19, 1, 20)
        frame = row["seconds"] + case["network_seconds"]
        assert row["share"] == pytest.approx(row["seconds"] / frame)
        assert row["frames_per_second"] == pytest.approx(1 / frame)
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 4 and len({line.count("|") for line in table}) == 1
    assert "at random" in out and out.endswith("\n")
    assert str(tmp_path) not in file.read_text()
    assert render.main([str(file)]) == 0 and capsys.readouterr().out == out


def test_weights_of_a_file(capsys, tmp_path, photo, weights):
    file = tmp_path / "record.json"
    words = ("--networks", "dabnet", "--sizes", "64x64", "--rounds", 1, "--weights", f"dabnet={weights}")
    status, _, _ = run(capsys, *words, "--photo", photo, "--json", file)
    (case,) = json.loads(file.read_text())["cases"]
    assert (status, case["weights"], case["embeddings"]) == (0, "random.npz", "the network's own")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--networks", "compact"], "--photo: expected the file of a photo"),
        (["--networks", "dabnet", "--photo", "PHOTO"], "--embeddings: expected a file, for dabnet"),
        (["--sizes", "1280", "--photo", "PHOTO"], "--sizes: expected WxH as in 1280x720"),
        (["--sizes", "640x10", "--photo", "PHOTO"], "got '640x10'"),
        (
            ["--networks", "compact", "--weights", "dabnet=a.npz"],
            "--weights: expected NAME=FILE with a name of",
        ),
        (["--networks", "compact", "--weights", "compact"], "got 'compact'"),
        (["--networks", "compact", "--weights", "compact=no.npz", "--photo", "PHOTO"], "no.npz"),
        (["--tolerance", "0"], "--tolerance: expected a number in (0, 1), got 0"),
        (["--rounds", "0"], "rounds: expected 1 or more"),
        (["--seconds", "0"], "seconds: expected a positive number"),
    ],
)
def test_what_a_user_got_wrong(capsys, photo, words, message):
    status, out, err = run(capsys, *[photo if word == "PHOTO" else word for word in words])
    assert (status, out) == (2, "") and message in err


def test_published_settings():
    assert frames.settings_of("deeplab_wrn38") == preset("pebal", "road_anomaly")
    found = {name: frames.settings_of(name) for name in frames.METHODS}
    assert {name: of.parts for name, of in found.items()} == {
        "compact": 1, "dabnet": 1, "deeplab_wrn38": 4, "rba_swin_b": 2, "rba_swin_l": 2, "mask2anomaly": 2
    }  # fmt: skip
    assert {(of.alpha, of.steps, of.temperature) for of in found.values()} == {(0.99, 20, 0.01)}


@pytest.mark.parametrize("channels", [6, 30])
def test_real_embeddings_stand_in(source, channels):
    like = torch.empty(2, channels, 9, 16)
    embeddings, values = walks.substitute_maps(source, like, torch.empty(2, 5, 9, 16))
    assert embeddings.shape == like.shape and values.shape == (2, 5, 9, 16)
    real = torch.from_numpy(np.load(source)["embedding"])
    kept = min(channels, 24)
    assert torch.equal(embeddings[0, :kept], real[:kept]) and not embeddings[:, kept:].any()
    assert torch.equal(embeddings[1], embeddings[0].flip(-1)) and torch.equal(values[1], values[0].flip(-1))
    flat = torch.cat([real.flatten(1), values[0].flatten(1)])
    assert torch.linalg.matrix_rank(flat.double(), rtol=1e-5) == 24  # values are linear in the embeddings
    same, also = walks.substitute_maps(source, like, like)
    assert same is also


def test_mask_networks_walk_embeddings_and_masks(source):
    network, photo = Masks(), np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    made = frames.Frames(network, source, 1e-4, Limits(rounds=1), CpuDevice()).measure(photo)
    assert made.map == (2, 6, 6, 8)
    rows = made.rows
    assert [(r.walked, r.value_channels, r.settings.parts, r.sub_maps, r.sub_map) for r in rows] == [
        ("embeddings", 6, 2, 8, (3, 4)),
        ("embeddings", 6, 1, 2, (6, 8)),
        ("masks", 5, 2, 8, (3, 4)),
        ("masks", 5, 1, 2, (6, 8)),
    ]
    assert all(row.matched and "first sub-map" in row.against for row in rows)
    own = frames.Frames(network, None, 1e-4, Limits(rounds=1), CpuDevice()).measure(photo)
    assert [row.matched for row in own.rows] == [True] * 4


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "transitions"])
@pytest.mark.parametrize(("parts", "views"), [(1, 1), (2, 2)])
def test_wrong_walks_are_refused(task, exact, parts, views):
    task = task(parts, views)
    sample = walks.measure(task, CpuDevice(), exact=exact)
    assert (sample.path, sample.exact is None) == (("sparse", not exact) if parts == 1 else ("streaming", True))
    right = task()
    found = walks.check(task, right, sample)
    assert found.matched and 0 < found.error <= found.bound
    assert ("exact walk" in found.against) == (sample.exact is not None)
    for wrong in (task.value_map, torch.full_like(right, torch.nan), right * 1.01, replace(task, walk=Walk(steps=9))()):
        assert not walks.check(task, wrong, sample).matched


def test_a_measured_sub_map_is_right(task):
    task = task()
    sample = walks.measure(task, CpuDevice())
    e, v = (walks.corner(map_, (30, 40)) for map_ in (task.embedding_map, task.value_map))
    wanted = reference.walk(e.double(), v[:, :19].double())
    assert sample.pixels == 1200
    assert relative_error(sample.exact, wanted) < 1e-5


def test_a_sample_is_spread_over_the_map(monkeypatch, task):
    task = task()
    assert walks.measure_sample(task, CpuDevice()).pixels == 1200
    monkeypatch.setattr(walks, "SAMPLE", 100)
    assert walks.measure_sample(task, CpuDevice()).pixels == 8 * 10
    few = walks.corner(task.value_map, task.size, 4).T.unflatten(1, (8, 10))
    assert torch.equal(few, task.value_map[0, :, ::4, ::4])


def test_estimates_go_by_pairs():
    sample = walks.Sample(1000, "sparse", 10**5, 1.0, 3.0, 5.0, None)
    assert (sample.estimate(1000), sample.estimate(2000), sample.exact_estimate(2000)) == (1, 4, 12)
    assert sample.stays_sparse(50000) and not sample.stays_sparse(60000)  # the matrix would be larger than it may
    assert sample.estimate(60000) == 5 * 3600
    assert replace(sample, path="streaming").estimate(2000) == 20


def test_long_runs_are_left_out(monkeypatch, photo):
    pixels = np.asarray(Image.open(photo).resize((96, 64)))
    network = CompactNet.load()
    slow = frames.Frames(network, None, 1e-4, Limits(seconds=60, rounds=1), CpuDevice())
    slow.before = (96 * 64 // 2, 40.0)
    case = slow.measure(pixels)
    assert case.skipped == "would take about 80 s (by pixels, from a smaller photo), the limit is 60 s"
    slow.before = None
    sample = walks.Sample(48, "sparse", 9, 25.0, 1.0, 2.0, None)
    monkeypatch.setattr(frames, "measure_sample", lambda *arguments: sample)
    case = slow.measure(pixels)
    (row,) = case.rows
    assert row.skipped == "would take about 100 s (by pairs, from 48 pixels), the limit is 60 s"
    assert row.seconds is None and case.network_seconds > 0
    case = frames.Frames(network, None, 1e-4, Limits(seconds=1e-9), CpuDevice()).measure(pixels)
    assert "it did" in case.skipped and case.rows == ()


def test_failures_stop_nothing_else(monkeypatch, photo):
    def broken(*arguments):
        raise MemoryError("no room")

    pixels = np.asarray(Image.open(photo).resize((96, 64)))
    some = frames.Frames(CompactNet.load(), None, 1e-4, Limits(rounds=1), CpuDevice())
    monkeypatch.setattr(frames, "check", broken)
    (row,) = some.measure(pixels).rows
    assert row.failed == "MemoryError: no room" and row.seconds is None
    monkeypatch.setattr(some.scorer, "analyze", broken)
    assert some.measure(pixels).failed == "MemoryError: no room"


def test_a_run_that_differs_is_refused(monkeypatch, photo):
    results = iter((0.0, 1.0))
    monkeypatch.setattr(walks.Task, "__call__", lambda task: task.value_map + next(results))
    monkeypatch.setattr(frames, "check", lambda *arguments: walks.Check(0.0, 1.0, "exact walk"))
    pixels = np.asarray(Image.open(photo).resize((96, 64)))
    (row,) = frames.Frames(CompactNet.load(), None, 1e-4, Limits(rounds=1), CpuDevice()).measure(pixels).rows
    assert row.matched is False and row.seconds is None
