"""Tables 4, 5 and 6 and the figure on the command line, with a small stand-in for the package's weights."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from python_tests.cli.test_cli_synboost import run
from python_tests.evaluate.labeled import write_photos
from python_tests.synboost.parts import put_own_set, small_pipeline
from rwpm_fast.synboost import timing


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with RoadAnomaly, and Lost & Found as it is published, as the current one."""
    put_own_set(tmp_path / "weights", monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "PHOTO_SIZE", (32, 64))
    monkeypatch.setattr(timing, "untrained_chain", lambda kind, device: small_pipeline())
    frames = tmp_path / "data/RoadAnomaly/RoadAnomaly_jpg/frames"
    write_photos(frames, tmp_path / "truth", [f"a{number}" for number in range(4)], anomaly=2)
    for number in range(4):
        (frames / f"a{number}.labels").mkdir()
        truth = np.array(Image.open(tmp_path / f"truth/a{number}.png"))
        Image.fromarray(np.where(truth == 255, 0, truth)).save(frames / f"a{number}.labels/labels_semantic.png")
    found = tmp_path / "data/LostAndFound"
    photos, labels = found / "leftImg8bit/test/01_Road", found / "gtCoarse/test/01_Road"
    write_photos(photos, labels, ["01_Road_000000_000010"], "_gtCoarse_labelIds", anomaly=7)
    photo = photos / "01_Road_000000_000010.png"
    photo.rename(photo.with_name("01_Road_000000_000010_leftImg8bit.png"))
    label = labels / "01_Road_000000_000010_gtCoarse_labelIds.png"
    truth = np.array(Image.open(label))
    truth[truth == 0] = 1
    truth[truth == 255] = 0
    Image.fromarray(truth).save(label)
    return tmp_path


def cells(markdown):
    """Rows of the first table of a text, by column."""
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_table_4(capsys, place):
    status, out, err = run(
        capsys, "evaluate --table 4 --root data --json t.json --csv t.csv --figure f.png --figure-photos 3"
    )
    assert status == 0, err
    rows = {(row["data set"].split(",")[0], row["data set"].split(", ", 1)[1]): row for row in cells(out)}
    assert {title for title, _ in rows} == {"Softmax entropy", "Image Resynthesis++", "SynBoost"} and len(rows) == 9
    of_whole, of_road = (
        rows["Image Resynthesis++", name]
        for name in (
            "Lost & Found, whole photos: what is no obstacle is an inlier",
            "Lost & Found, road only: what is neither road nor obstacle is void",
        )
    )
    assert of_whole["published AuROC"] == "93.00" and of_road["published AuROC"] == "99.00"
    assert of_road["published AuROC, Image Resynthesis"] == "93.00" and of_road["AuROC"] != of_whole["AuROC"]
    assert rows["SynBoost", "RoadAnomaly"]["published AuROC"] == "-"
    content = json.loads((place / "t.json").read_text())
    assert [line["score"] for line in content["lines"]] == ["entropy"] * 3 + ["resynthesis"] * 3 + ["synboost"] * 3
    whole, road, _ = content["lines"][:3]
    assert road["positives"] == whole["positives"] > 0 and road["negatives"] < whole["negatives"]
    assert len(list(csv.reader(io.StringIO((place / "t.csv").read_text())))) == 10
    assert Image.open("f.png").width == 1600


def test_table_4_leaves_out_what_is_missing(capsys, place):
    (place / "data/LostAndFound").rename(place / "elsewhere")
    status, out, _ = run(capsys, "evaluate resynthesis --table 4 --root data")
    assert status == 0 and "lost_and_found is not in data." in out
    assert [row["score"] for row in cells(out)] == ["entropy", "resynthesis"]
    assert cells(out)[1]["published AuROC"] == "86.00"
    trained = "evaluate --table 4 --root data --trained weights"
    assert [row["score"] for row in cells(run(capsys, trained)[1])] == ["entropy", "resynthesis", "synboost"]


def test_table_5(capsys, place):
    status, out, err = run(capsys, "evaluate --table 5 --runs 2 --warmup 1 --json t.json --csv t.csv --markdown t.md")
    assert (status, err) == (0, "")
    assert out.strip() == (place / "t.md").read_text().strip()
    assert {row["module"]: row["published full, ms"] for row in cells(out)} == {
        **{"segmentation": "1256.0", "synthesis": "192.0", "perceptual difference": "13.0", "dissimilarity": "53.0"},
        **{"total": "1514.0", "entropy and distance": "-", "ensemble": "-", "whole chain": "-"},
    }
    content = json.loads((place / "t.json").read_text())
    assert content["settings"]["runs"] == 2 and content["command"].startswith("rwpm-fast evaluate --table 5 --runs 2")
    assert all(line["full, mean ms"] > 0 and line["light, std ms"] >= 0 for line in content["lines"])
    assert "2 timed runs after 1 of warm-up" in out
    status, out, _ = run(capsys, "evaluate --table 5 --runs 1 --warmup 0 --chains light")
    assert status == 0 and set(cells(out)[0]) == {"module", "light, mean ms", "light, std ms", "published light, ms"}


def test_table_6(capsys, place):
    status, out, err = run(capsys, "evaluate --table 6 --root data --dataset road_anomaly --csv t.csv --json t.json")
    assert (status, err) == (0, "")
    assert [row["score"] for row in cells(out)][4:] == ["published weights", "grid search", "end to end"]
    assert {row["data set"] for row in cells(out)} == {"RoadAnomaly"}
    content = json.loads((place / "t.json").read_text())
    assert content["settings"]["tuning photos"] == 2 and content["settings"]["reported photos"] == {"road_anomaly": 2}
    assert "The first half of each data set tunes; the second is reported." in out and "Published:" not in out
    words = "evaluate --table 6 --root data --dataset lost_and_found --tune-dataset road_anomaly"
    status, out, _ = run(capsys, words)
    assert status == 0 and "Tuned on 4 photos of RoadAnomaly." in out


def test_table_6_tells_of_broken_photos(capsys, place, monkeypatch):
    (place / "data/RoadAnomaly/RoadAnomaly_jpg/frames/a1.png").write_bytes(b"no photo")
    status, out, err = run(capsys, "evaluate --table 6 --root data --dataset road_anomaly")
    assert status == 1 and err.count("a1.png") == 1 and "grid search" in out
    (place / "data/RoadAnomaly/RoadAnomaly_jpg/frames/a0.png").write_bytes(b"no photo")
    status, out, err = run(capsys, "evaluate --table 6 --root data --dataset road_anomaly")  # no photo tunes
    assert (status, out) == (2, "") and "a0.png" in err and "a1.png" in err


@pytest.mark.parametrize("words", ["--table 5", "--table 6 --root data --dataset road_anomaly"])
def test_one_process_makes_a_table_of_figures(capsys, place, monkeypatch, words):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    status, out, err = run(capsys, f"evaluate {words}")
    assert (status, out) == (2, "") and f"--table: table {words[8]} is made by one process; start it without" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--table 5 --runs 0", "--runs: expected 1 or more, got 0"),
        ("--table 5 --warmup -1", "--warmup: expected 0 or more, got -1"),
        ("--table 5 --chains heavy", "--chains: expected full or light, got 'heavy'"),
        ("--table 5 --html r.html", "--html: means nothing for table 5; leave it out"),
        ("synboost --table 6 --root data --dataset road_anomaly", "METHOD: means nothing for table 6; leave it out"),
        ("--table 6 --root data --dataset lost_and_found", "--dataset: lost_and_found: expected two photos or more"),
        ("--table 6 --root data --dataset road_anomaly --runs 3", "--runs: only for --table 5"),
        ("--table 6 --root data --dataset road_anomaly --tune-dataset road_anomaly", "got .* in both splits"),
        ("--table 4 --root data --scores energy", "--table 4: has scores of its own, and no walk; leave --scores out"),
        ("--table 4 --root data --steps 3", "--table 4: has scores of its own, and no walk; leave --walk out"),
        ("--table 4 --root data --walk-values masks", "--table 4: .* no walk; leave --walk-values out"),
        ("--table 4 --root data --no-walk-padding", "--table 4: .* no walk; leave --no-walk-padding out"),
        ("resynthesis --table 4 --root data --vgg19 a.pth", "--vgg19: resynthesis does not read it; leave it out"),
        ("rba --table 4 --root data", "METHOD: for --table 4, expected methods of synboost, resynthesis, got 'rba'"),
        ("--table 4 --root data --dissimilarity a.pth", "--dissimilarity: each method of --table 4 has its own"),
        (
            "--table 4 --root data --checkpoints pebal=a.pth",
            "--checkpoints: expected METHOD=FILE, METHOD of synboost",
        ),
        ("--table 4 --root data --trained photos", "trained: no such folder: photos"),
        ("--table 4 --root data --trained weights --vgg19 a", "--vgg19: resynthesis as trained in weights does not"),
        ("--table 6 --root data --dataset road_anomaly --trained x", "--trained: no such folder: x"),
        ("--table 4 --root data --vgg19 a.pth", "--dissimilarity: expected a file beside that of vgg19"),
        (
            "--root data --dataset road_anomaly --figure f.doc",
            r"--figure: expected a file \.png or \.pdf or \.svg",
        ),
        ("--root data --dataset road_anomaly --figure-photos 3", "--figure-photos: expected 1 or more photos for the"),
    ],
)
def test_options_that_do_not_go_together(capsys, place, words, message):
    status, out, err = run(capsys, f"evaluate {words}")
    assert status == 2 and not out
    assert re.search(message, err), err
    assert not list(place.glob("*.json"))


def test_figure_of_a_method(capsys, place):
    status, _, err = run(
        capsys, "evaluate synboost --root data --dataset road_anomaly --steps 2 --figure f.svg --figure-photos 2"
    )
    assert status == 0, err
    text = (place / "f.svg").read_text()
    assert text.startswith("<?xml") and text.count("<image") == 2 * (2 + 6)
