"""The command line as a user meets it: files in, files out, messages, exit statuses."""

import argparse
import errno
import json
import os
import shlex
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributed.run import get_args_parser

from rwpm_fast import Scorer, Walk, cli, networks
from rwpm_fast.io.images import read_image
from rwpm_fast.networks import DABNet
from rwpm_fast.presets import ANCHOR_SHARE

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def photos(tmp_path):
    """Three photos, one of them gray and one with transparency, and their labels."""
    random = np.random.default_rng(0)
    folder, labels = tmp_path / "photos", tmp_path / "labels"
    folder.mkdir()
    labels.mkdir()
    for name, channels in (("a1.png", (3,)), ("a2.png", ()), ("a10.png", (4,))):
        Image.fromarray(random.integers(0, 256, (48, 64, *channels), dtype=np.uint8)).save(folder / name)
        truth = np.zeros((48, 64), np.uint8)
        truth[10:20, 10:30], truth[40:] = 2, 255
        Image.fromarray(truth).save(labels / name)
    return folder


def run(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def fails_at(number, error):
    """A function that does nothing, but raises the error at the call of that number."""
    calls = []

    def call(*_):
        calls.append(1)
        if len(calls) == number:
            raise error

    return call


def score(capsys, weights, out, *arguments):
    return run(capsys, "score", *arguments, "--network", "dabnet", "--weights", weights, "--out", out, "--steps", 2)


def test_score_writes_a_map_and_a_panel_per_photo(capsys, tmp_path, weights, photos):
    status, out, err = score(capsys, weights, tmp_path / "out", photos)
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["a1.png", "a2.png", "a10.png"]
    assert "network" in out and "walk" in out
    for stem in ("a1", "a2", "a10"):
        score_map = np.load(tmp_path / "out" / f"{stem}.npy")
        assert score_map.shape == (48, 64) and score_map.dtype == np.float32 and np.isfinite(score_map).all()
        assert Image.open(tmp_path / "out" / f"{stem}.png").width > 500


def test_score_takes_globs_and_settings(capsys, tmp_path, weights, photos):
    arguments = (photos / "a1*.png", "--no-panel", "--parts", 2, "--calibrate", "--score", "max_logit")
    status, out, _ = score(capsys, weights, tmp_path / "out", *arguments)
    assert status == 0 and len(out.splitlines()) == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a1.npy", "a10.npy"]


def test_a_broken_photo_is_reported_and_the_others_run(capsys, tmp_path, weights, photos):
    (photos / "a3.png").write_bytes((photos / "a1.png").read_bytes()[:500])
    missing = tmp_path / "missing.png"
    status, out, err = score(capsys, weights, tmp_path / "out", photos, missing, "--no-panel")
    assert status == 1 and len(out.splitlines()) == 3
    assert "a3.png" in err and str(missing) in err and "2 failed" in err
    assert not (tmp_path / "out" / "a3.npy").exists()


def test_scores_that_are_not_finite_fail_their_photos(capsys, tmp_path, weights, photos, monkeypatch):
    load = cli.score.load_scorer

    def with_a_broken_weight(*arguments):
        scorer = load(*arguments)
        with torch.no_grad():
            next(scorer.network.parameters()).view(-1)[0] = torch.nan
        return scorer

    monkeypatch.setattr(cli.score, "load_scorer", with_a_broken_weight)
    status, _, err = score(capsys, weights, tmp_path / "out", photos)
    assert status == 1 and "a10.png: energy: not finite at 3072 of 3072 pixels" in err and "3 failed" in err
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_leaves_no_half_file(capsys, tmp_path, weights, photos, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a2.npy").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fails_at(2, FULL))
    status, _, err = score(capsys, weights, out, photos, "--no-panel")
    assert status == 1 and "a2.npy" in err and "No space left" in err
    assert sorted(p.name for p in out.iterdir()) == ["a1.npy", "a10.npy", "a2.npy"]
    assert (out / "a2.npy").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photos": "empty"}, "no photos in this folder"),
        ({"--weights": "photo"}, "expected a weight file"),
        ({"--weights": "absent.npz"}, "weights: expected a weight file, got"),
        ({"--weights": "empty"}, "weights: expected a weight file, got"),
        (
            {"--weights": "deeplab"},
            "deeplab.pth holds weights of another network: it has 0 of the 415 entries of dabnet",
        ),
        ({"--network": "deeplab_wrn38"}, "another network: it has 0 of the 268 entries of deeplab_wrn38"),
        ({"--network": "resnet"}, "expected one of compact, dabnet"),
        ({"--score": "color"}, "energy"),
        ({"--alpha": "1.5"}, "alpha: expected a number in [0, 1], got 1.5"),
        ({"--temperature": "0"}, "temperature"),
        ({"--parts": "0"}, "parts"),
        ({"--device": "cuda:99"}, "--device"),
        ({"--threads": "0"}, "--threads"),
        ({"--out": "photo"}, "--out: expected a folder, or a path to make one at, got"),
        ({"--out": "below"}, "a1.png/below: Not a directory"),
    ],
    ids=lambda change: " ".join(change) if isinstance(change, dict) else None,
)
def test_bad_arguments_say_what_was_wanted_before_any_work(capsys, tmp_path, weights, photos, change, message):
    (tmp_path / "empty").mkdir()
    torch.save({"branch1.mod1.conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "deeplab.pth")
    paths = {
        "empty": tmp_path / "empty",
        "photo": photos / "a1.png",
        "below": photos / "a1.png" / "below",
        "absent.npz": tmp_path / "absent.npz",
        "deeplab": tmp_path / "deeplab.pth",
    }
    given = {"photos": photos, "--network": "dabnet", "--weights": weights, "--out": tmp_path / "out", **change}
    given = {name: paths.get(value, value) for name, value in given.items()}
    photo = given.pop("photos")
    status, out, err = run(capsys, "score", photo, *(x for pair in given.items() for x in pair))
    assert status == 2 and out == ""
    assert message in err and "Traceback" not in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable(capsys, tmp_path, weights, photos):
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    status, _, err = score(capsys, weights, out, photos)
    assert status == 2 and "not writable" in err


def test_photos_that_would_write_one_file(capsys, tmp_path, weights, photos):
    Image.open(photos / "a1.png").save(photos / "a1.bmp")
    status, _, err = score(capsys, weights, tmp_path / "out", photos)
    assert status == 2 and "a1.bmp" in err and "a1.png" in err


def evaluate(capsys, weights, photos, *arguments):
    labels = photos.parent / "labels"
    settings = ("--network", "dabnet", "--weights", weights, "--steps", 2, *arguments)
    return run(capsys, "evaluate", "--images", photos, "--labels", labels, *settings)


def test_evaluate_prints_and_writes_pooled_metrics(capsys, tmp_path, weights, photos):
    status, out, err = evaluate(capsys, weights, photos, "--positive", 2, "--json", tmp_path / "numbers.json")
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    assert rows[0] == ["walk", "score", "AuROC", "AP", "FPR95"]
    assert [row[:2] for row in rows[2:]] == [
        [walk, score] for score in ("energy", "max_logit") for walk in ("without", "with")
    ]
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert len(numbers["lines"]) == 4 and numbers["failures"] == {}
    for result in numbers["lines"]:
        # Per photo 200 pixels are 2, the lowest 8 rows void, the others 0.
        assert (result["positives"], result["negatives"]) == (3 * 200, 3 * (40 * 64 - 200))
        assert 0 < result["ap"] < 1


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--anchor-share", 0.1], {"anchor": -1.0, "anchor_share": 0.1}),
        (["--anchor", 0.9], {"anchor": 0.9, "anchor_share": 0.0}),
    ],
    ids=["share", "cosine"],
)
def test_evaluate_compares_the_anchored_walk(capsys, tmp_path, weights, photos, options, settings):
    files = ("--json", tmp_path / "numbers.json", "--html", tmp_path / "report.html", "--panels", 1)
    status, _, err = evaluate(capsys, weights, photos, "--positive", 2, "--scores", "energy", *options, *files)
    assert (status, err) == (0, "")
    without, published, anchored = json.loads((tmp_path / "numbers.json").read_text())["lines"]
    assert [line["label"] for line in (without, published, anchored)] == ["without", "with", "anchored"]
    assert "anchor" not in published["walk"]
    assert anchored["walk"] == published["walk"] | settings
    assert len({line["ap"] for line in (without, published, anchored)}) == 3
    for photo in anchored["by_photo"]:
        assert 0 < photo["anchored"] <= 1
        if settings["anchor_share"]:
            assert photo["anchored"] == pytest.approx(0.1, abs=0.02)
    assert "anchored pixels" in (tmp_path / "report.html").read_text()


def test_score_anchors_when_asked(capsys, tmp_path, weights, photos):
    for name, options in {"walk": (), "off": ("--anchor", -1), "anchored": ("--anchor-share", 0.2)}.items():
        assert score(capsys, weights, tmp_path / name, photos / "a1.png", "--no-panel", *options)[0] == 0
    walk, off, anchored = (np.load(tmp_path / name / "a1.npy") for name in ("walk", "off", "anchored"))
    assert np.array_equal(walk, off)
    assert not np.allclose(walk, anchored)


def test_the_compact_network_is_anchored_unless_told_otherwise(capsys, tmp_path, photos):
    options = {"own": (), "share": ("--anchor-share", ANCHOR_SHARE), "published": ("--anchor-share", 0)}
    for name, more in {**options, "off": ("--anchor", -1)}.items():
        out = ("--out", tmp_path / name, "--no-panel", "--steps", 2)
        assert run(capsys, "score", photos / "a1.png", *out, *more)[0] == 0
    own, share, published, off = (np.load(tmp_path / name / "a1.npy") for name in ("own", "share", "published", "off"))
    assert np.array_equal(own, share) and np.array_equal(published, off)
    assert not np.allclose(own, published)
    walk = Walk(steps=2, tolerance=1e-4)
    assert np.array_equal(published, Scorer(networks.load(), walk=walk)(read_image(photos / "a1.png")).score.numpy())


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ((), ["without", "with", "anchored"]),
        (("--anchor-share", 0), ["without", "with"]),
        (("--table", "S4"), ["without", "tau = 1.0", "tau = 0.1", "tau = 0.01", "tau = 0.001", "tau = 0.0001"]),
    ],
    ids=["default", "published", "table"],
)
def test_evaluate_anchors_where_the_network_does_by_default(capsys, tmp_path, photos, options, labels):
    data = ("--images", photos, "--labels", photos.parent / "labels", "--positive", 2, "--scores", "energy")
    files = ("--json", tmp_path / "numbers.json", "--cache", tmp_path / "cache")
    assert run(capsys, "evaluate", *data, *files, *options, "--steps", 1)[0] == 0
    lines = json.loads((tmp_path / "numbers.json").read_text())["lines"]
    assert [line["label"] for line in lines] == labels
    anchored = [line["label"] for line in lines if "anchor_share" in (line["walk"] or {})]
    assert anchored == (["anchored"] if "anchored" in labels else [])


def test_evaluate_says_when_no_label_is_positive(capsys, weights, photos):
    status, out, err = evaluate(capsys, weights, photos)
    assert (status, out) == (2, "")
    assert "no pixel is labeled 1; there are inlier values 0 (76.82%), void values 2, 255 (23.18%)" in err
    assert "--positive" in err


def test_labels_of_another_size_are_reported(capsys, weights, photos):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(photos.parent / "labels" / "a2.png")
    status, out, err = evaluate(capsys, weights, photos, "--positive", 2)
    assert status == 1 and "2 of 3 photos" in out
    assert "a2.png" in err and "48x64" in err and "10x10" in err


def test_missing_labels_are_named_before_any_work(capsys, weights, photos):
    (photos.parent / "labels" / "a10.png").unlink()
    status, out, err = evaluate(capsys, weights, photos)
    assert status == 2 and out == "" and "a10.png" in err


def test_labels_that_are_no_folder(capsys, weights, photos):
    (photos.parent / "labels").rename(photos.parent / "truth")
    status, out, err = evaluate(capsys, weights, photos)
    assert status == 2 and out == "" and "labels: expected a folder of label PNGs, got" in err


@pytest.mark.parametrize("kind", [(), ("--table", "S4")], ids=["evaluate", "table"])
def test_numbers_that_cannot_be_written_are_told_before_any_work(capsys, weights, photos, kind):
    for file, text in (
        (photos, "--json: expected a file, got the folder"),
        (photos / "a1.png" / "x", "--json: expected"),
    ):
        status, out, err = evaluate(capsys, weights, photos, *kind, "--json", file)
        assert status == 2 and out == "" and text in err and str(photos) in err
    status, _, err = evaluate(capsys, weights, photos, "--positive", 2, "--json", photos.parent / "new" / "x.json")
    assert (status, err) == (0, "") and (photos.parent / "new" / "x.json").is_file()


def test_an_unknown_score_is_named_before_any_work(capsys, weights, photos):
    status, out, err = evaluate(capsys, weights, photos, "--scores", "energy", "color")
    assert status == 2 and out == "" and "got 'color'" in err


def test_evaluate_takes_the_first_photos_only(capsys, weights, photos):
    (photos.parent / "labels" / "a10.png").unlink()
    status, out, err = evaluate(capsys, weights, photos, "--positive", 2, "--limit", 2)
    assert (status, err) == (0, "") and "2 of 2 photos" in out
    status, _, err = evaluate(capsys, weights, photos, "--limit", 0)
    assert status == 2 and "--limit: expected 1 or more, got 0" in err


def test_photos_is_an_old_name_of_limit(capsys, tmp_path, weights, photos):
    file = tmp_path / "numbers.json"
    status, out, err = evaluate(capsys, weights, photos, "--positive", 2, "--photos", 1, "--json", file)
    assert status == 0 and "1 of 1 photos" in out
    assert err == "DeprecationWarning: --photos is now called --limit; the old name will be removed\n"
    command = json.loads(file.read_text())["command"]
    assert "--limit 1" in command and "--photos" not in command
    status, _, err = evaluate(capsys, weights, photos, "--photos", 0)
    assert status == 2 and "--limit: expected 1 or more, got 0" in err


def test_the_recorded_command_gives_the_record_again(capsys, tmp_path, weights, photos):
    file = tmp_path / "numbers.json"
    words = ("--positive", 2, "--scores", "energy", "entropy", "--components", "generic", "--no-walk-padding")
    first = evaluate(capsys, weights, photos, *words, "--fpr-rule", "pebal", "--json", file, "--threads", 1)
    record = json.loads(file.read_text())
    program, *arguments = shlex.split(record["command"])
    assert program == "rwpm-fast" and "--device" not in arguments
    again = run(capsys, *arguments)
    assert json.loads(file.read_text())["command"] == record["command"]
    tables = [[line for line in out.splitlines() if line.startswith("|")] for _, out, _ in (first, again)]
    assert tables[0] == tables[1]


def table(capsys, weights, photos, name, *arguments):
    cache = photos.parent / "cache"
    return evaluate(capsys, weights, photos, "--table", name, "--positive", 2, "--cache", cache, *arguments)


def test_table_s4_prints_ours_beside_the_published_figures(capsys, tmp_path, weights, photos):
    file = tmp_path / "s4.json"
    status, out, err = table(capsys, weights, photos, "S4", "--json", file)
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    assert rows[0] == ["walk", "score", "AP", "FPR95", "published AP", "published FPR95"]
    assert [row[0] for row in rows[2:]] == ["without", *(f"tau = {tau}" for tau in (1.0, 0.1, 0.01, 0.001, 0.0001))]
    assert rows[2][4:] == ["85.42", "6.92"] and rows[7][4:] == ["85.57", "6.93"]
    assert "steps 2, parts 2" in out and "3 of 3 photos" in out and "Published: RbA" in out

    numbers = json.loads(file.read_text())
    assert numbers["title"] == "Table S.4: temperature tau" and numbers["failures"] == {}
    assert [[row["label"], f"{100 * row['ap']:.2f}", f"{100 * row['fpr95']:.2f}"] for row in numbers["lines"]] == [
        [row[0], *row[2:4]] for row in rows[2:]
    ]
    assert numbers["lines"][0]["walk"] is None
    walk = {"alpha": 0.99, "steps": 2, "parts": 2, "temperature": 0.1, "tolerance": 1e-4}
    assert numbers["lines"][2]["walk"] == walk
    assert numbers["lines"][2]["published"] == {"AP": 31.45, "FPR95": 68.65}

    # The rows without and with the walk are those of evaluate itself.
    _, plain, _ = evaluate(capsys, weights, photos, "--positive", 2, "--scores", "energy", "--parts", 2)
    wanted = [line.split("|")[4:6] for line in plain.splitlines() if "| energy |" in line]
    assert [rows[2][2:4], rows[5][2:4]] == [[cell.strip() for cell in row] for row in wanted]


def test_a_table_goes_on_from_its_folder(capsys, weights, photos):
    files = photos.parent / "cache"
    table(capsys, weights, photos, "S4", "--limit", 2)
    times = {file: file.stat().st_mtime_ns for file in files.iterdir()}
    assert sorted(file.name.split("-")[0] for file in times) == ["a1"] * 6 + ["a2"] * 6
    _, first, _ = table(capsys, weights, photos, "S4")
    _, again, _ = table(capsys, weights, photos, "S4")
    assert again == first
    assert len(list(files.iterdir())) == 3 * 6
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    table(capsys, weights, photos, "S4", "--alpha", 0.5)
    assert len(list(files.iterdir())) == 3 * (6 + 5)  # what has no walk is the same


def test_table_s3_has_frames_per_second(capsys, tmp_path, weights, photos, monkeypatch):
    from rwpm_fast.evaluate import published

    small = [replace(row, settings={**row.settings, "neighbors": 3}) for row in published.TABLES["S3"].rows[:1]]
    rows = (*small, published.TABLES["S3"].rows[-1])
    monkeypatch.setitem(published.TABLES, "S3", replace(published.TABLES["S3"], rows=rows))
    file = tmp_path / "s3.json"
    status, out, err = table(capsys, weights, photos, "S3", "--json", file, "--scores", "energy", "max_logit")
    assert (status, err) == (0, "")
    printed = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line[:1] == "|"]
    heads = [
        "graph",
        "score",
        "AP",
        "FPR95",
        "FPS",
        "walk alone, FPS",
        "published AP",
        "published FPR95",
        "published FPS",
    ]
    assert printed[0] == heads
    assert printed[2][6:] == printed[4][6:] == ["86.38", "6.57", "0.93"]
    numbers = json.loads(file.read_text())["lines"]
    for row, cells in zip(numbers, printed[2:], strict=True):
        assert cells[:2] == [row["label"], row["score"]]
        assert cells[4:6] == [f"{row['fps']:.2f}", f"{1 / row['walk_seconds_median']:.2f}"]
        assert row["fps"] < 1 / row["walk_seconds_median"]


def test_a_photo_too_small_for_a_row(capsys, weights, photos):
    status, out, err = table(capsys, weights, photos, "S3")
    assert status == 1 and "0 of 3 photos" in out and "| - |" in out
    assert "a10.png: neighbors: expected 1 to 11 for 12 pixels, got 20" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("S9",), "--table: expected one of S1, S2, 4, S3, S4, n, 5, 6, got 'S9'"),
        (("S4", "--temperature", 0.1), "temperature: sets the rows of table S.4 apart"),
        (("S4", "--alpha", 2), "alpha: expected a number in [0, 1], got 2.0"),
        (("S4", "--scores", "color"), "got 'color'"),
        (("S4", "--fpr-rule", "mine"), "fpr_rule"),
    ],
    ids=lambda part: part[-1] if isinstance(part, tuple) else "",
)
def test_tables_that_cannot_be(capsys, weights, photos, arguments, message):
    status, out, err = table(capsys, weights, photos, *arguments)
    assert status == 2 and out == "" and message in err


@pytest.mark.parametrize("kind", [("--table", "S4"), ("--components", "generic")], ids=["table", "components"])
def test_a_cache_without_a_folder_to_write(capsys, weights, photos, kind):
    file = photos.parent / "cache"
    file.write_text("a file")
    for folder, reason in ((file, "File exists"), (file / "below", "Not a directory")):
        status, out, err = evaluate(capsys, weights, photos, *kind, "--cache", folder)
        assert status == 2 and out == ""
        assert f"--cache: expected a folder, or a path to make one at, got {folder}: {reason}" in err


def test_a_table_goes_on_after_a_full_disk(capsys, weights, photos, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fails_at(8, FULL))
        status, out, err = table(capsys, weights, photos, "S4")
    assert status == 2 and out == "" and len(err.splitlines()) == 1
    assert "cannot write" in err and "cache/a2-" in err and "No space left on device" in err
    goes_on_from(capsys, weights, photos, ["a1"] * 6 + ["a2"])


def test_a_table_goes_on_after_an_interruption(capsys, weights, photos, monkeypatch):
    interrupt, embed = fails_at(2, KeyboardInterrupt), DABNet.embed
    with monkeypatch.context() as interrupted:
        interrupted.setattr(DABNet, "embed", lambda *arguments: interrupt() or embed(*arguments))
        assert table(capsys, weights, photos, "S4") == (130, "", "")
    goes_on_from(capsys, weights, photos, ["a1"] * 6)


def goes_on_from(capsys, weights, photos, done):
    """What was done for these photos stays as it is, and the rerun tells what a run in one go does."""
    cache = photos.parent / "cache"
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in cache.iterdir()}
    assert sorted(file.name.split("-")[0] for file in before) == done
    status, out, err = table(capsys, weights, photos, "S4")
    assert (status, err) == (0, "") and len(list(cache.iterdir())) == 3 * 6
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before} == before
    cache.rename(cache.with_name("first"))
    status, in_one_go, err = table(capsys, weights, photos, "S4")
    assert (status, err) == (0, "")
    assert [line for line in in_one_go.splitlines() if line.startswith("|")] == [
        line for line in out.splitlines() if line.startswith("|")
    ]


def test_a_table_without_labels(capsys, weights, photos):
    (photos.parent / "labels" / "a10.png").unlink()
    status, out, err = table(capsys, weights, photos, "S4")
    assert status == 2 and out == "" and "1 of 3 labels missing: a10.png" in err
    assert not (photos.parent / "cache").exists()


def test_demo_of_a_photo(capsys, tmp_path, weights, photos):
    arguments = (
        "--photo",
        photos / "a1.png",
        "--network",
        "dabnet",
        "--weights",
        weights,
        "--steps",
        2,
        "--no-walk-padding",
        "--out",
        tmp_path / "demo",
    )
    status, out, _ = run(capsys, "demo", *arguments)
    assert status == 0 and "(agrees)" in out
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "a1.png" in report and "--steps 2 --no-walk-padding</" in report and "<script" not in report
    assert (tmp_path / "demo" / "panel.png").stat().st_size > 10_000


def test_demo_of_a_rendered_street(capsys, tmp_path, monkeypatch):
    from rwpm_fast import demo

    monkeypatch.setattr(demo, "demo_scene", partial(demo.demo_scene, size=(64, 128)))
    status, out, err = run(capsys, "demo", "--seed", 1, "--steps", 2, "--out", tmp_path / "demo")
    assert (status, err) == (0, "") and "(agrees)" in out and out.count("AuROC") == 2
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "Street 1" in report and "<td>compact</td>" in report and "--seed 1" in report
    assert (tmp_path / "demo" / "panel.png").stat().st_size > 10_000
    status, out, err = run(capsys, "demo", "--seed", -1, "--out", tmp_path / "demo")
    assert status == 2 and "seed: expected 0 or more, got -1" in err


def test_weights_are_those_of_the_package_where_none_are_named(capsys, tmp_path, photos):
    status, out, err = run(capsys, "score", photos / "a1.png", "--out", tmp_path / "out", "--steps", 2)
    assert (status, err) == (0, "") and "map 8x6" in out
    status, _, err = run(capsys, "demo", "--photo", photos / "a1.png", "--steps", 2, "--out", tmp_path / "demo")
    assert (status, err) == (0, "")
    status, _, err = run(capsys, "score", photos / "a1.png", "--out", tmp_path / "out", "--network", "dabnet")
    assert status == 2 and "weights: expected a file with those of dabnet" in err


def test_info_tells_the_facts(capsys):
    status, out, _ = run(capsys, "info", "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["isa_chosen"] in facts["isa_available"]
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert {"cuda", "triton", "compiler", "cores"} <= facts.keys()
    status, out, _ = run(capsys, "info")
    assert status == 0 and len(out.splitlines()) == len(facts)


def test_torchrun_takes_every_option():
    """torchrun refuses an option of the command it starts that may abbreviate several of its own."""
    launcher = get_args_parser()

    def options(parser):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    yield from options(command)
            yield from action.option_strings

    for option in sorted(set(options(cli.parser()))):
        assert launcher.parse_args(["-m", "rwpm_fast", "train", option, "x"]).training_script == "rwpm_fast", option
