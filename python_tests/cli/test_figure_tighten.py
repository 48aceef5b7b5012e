"""The command `figure tighten`: a picture, numbers as text and JSON, and errors before any work."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import rwpm_fast
from rwpm_fast import Scorer, cli, networks
from rwpm_fast.io.images import read_image
from rwpm_fast.metrics import class_tightness
from rwpm_fast.scoring.tightening import photo_pixels


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photo half sky and half ground, with some noise."""
    random = np.random.default_rng(0)
    pixels = np.zeros((96, 160, 3), np.int64)
    pixels[:40], pixels[40:] = (130, 170, 220), (90, 90, 92)
    pixels += random.integers(-12, 13, pixels.shape)
    path = tmp_path_factory.mktemp("photos") / "street.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def run(capsys, *words):
    status = cli.main(["figure", "tighten", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_picture_json_and_tables(capsys, tmp_path, photo):
    files = tmp_path / "new" / "street.png", tmp_path / "new" / "street.json"
    status, out, err = run(capsys, photo, "--out", files[0], "--json", files[1], "--steps", 3, "--alpha", 0.9)
    assert (status, err) == (0, "")
    assert Image.open(files[0]).size == (1700, 880)
    record = json.loads(files[1].read_text())

    network = networks.load("compact")
    pixels = photo_pixels(Scorer(network).analyze(read_image(photo)))
    counts = {name: int((pixels.classes == k).sum()) for k, name in enumerate(network.classes)}
    assert record["classes"] == {name: count for name, count in counts.items() if count}
    name = max(counts, key=counts.get)
    label = network.classes.index(name)
    assert record["class"] == name and record["network"] == "compact"
    assert record["walk"] == {"alpha": 0.9, "steps": 3, "temperature": 0.01, "tolerance": 1e-4}

    counted = torch.tensor([k if counts[network.classes[k]] >= 6 else -1 for k in pixels.classes.tolist()])
    embeddings = pixels.embeddings
    for row in record["steps"]:
        wanted = class_tightness(rwpm_fast.walk(embeddings, alpha=0.9, steps=row["step"]), counted)
        got = row["spread"], row["margin"], row["mean_spread"], row["mean_margin"]
        assert got == pytest.approx(
            (float(wanted.spread[label]), float(wanted.margin[label]), *wanted.mean()), abs=1e-5
        )
        assert f"| {row['step']} | {row['spread']:.4f} | {row['margin']:.4f} |" in out
    assert [row["step"] for row in record["steps"]] == [0, 1, 2, 3]

    place = pixels.at(record["pixel"]["row"], record["pixel"]["column"])
    assert place == pixels.typical(label) and record["pixel"]["class"] == name
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    cosines = unit @ unit[place]
    cosines[place] = -1
    assert [n["cosine_before"] for n in record["nearest_before"]] == pytest.approx(cosines.topk(5).values.tolist())
    assert len(record["nearest_after"]) == 5
    assert all(n["cosine_after"] >= record["nearest_after"][4]["cosine_after"] for n in record["nearest_after"])


@pytest.mark.parametrize("suffix", [".pdf", ".SVG"])
def test_a_pixel_names_its_class(capsys, tmp_path, photo, suffix):
    out = tmp_path / f"figure{suffix}"
    words = photo, "--out", out, "--json", tmp_path / "a.json", "--pixel", 3, 5, "--steps", 1, "--projection", "tsne"
    status, _, err = run(capsys, *words, "--points", 40)
    assert (status, err) == (0, "")
    assert out.read_bytes()[:5] in (b"%PDF-", b"<?xml")
    record = json.loads((tmp_path / "a.json").read_text())
    pixel = record["pixel"]
    assert abs(pixel["row"] - 3) <= 4 and abs(pixel["column"] - 5) <= 4
    assert record["class"] == pixel["class"]


def test_a_photo_of_one_class_has_no_margin(capsys, tmp_path, photo, monkeypatch):
    road = torch.eye(19)[0].view(1, 19, 1, 1)
    monkeypatch.setattr(networks.CompactNet, "head", lambda self, e: road.expand(1, 19, *e.shape[-2:]))
    status, _, err = run(capsys, photo, "--out", tmp_path / "a.png", "--json", tmp_path / "a.json", "--steps", 1)
    assert (status, err) == (0, "")
    assert json.loads((tmp_path / "a.json").read_text())["steps"][1]["margin"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--class cat", "--class: expected one of road, sidewalk,"),
        (
            "--class train",
            "--class: expected a class with 6 pixels of the embedding map or more, got train with 0; the",
        ),
        ("--pixel 96 0", "--pixel: expected a row from 0 to 95 and a column from 0 to 159"),
        ("--pixel 0 -1", "got 0 -1"),
        (
            "--class train --pixel 3 3",
            "--pixel: expected a pixel that the network sees as train, got 3 3, which it sees",
        ),
        ("--steps -1", "steps: expected"),
        ("--tolerance 1", "tolerance: expected a number in [0, 1), got 1.0"),
        ("--points 0", "--points: expected 1 or more pixels to draw, got 0"),
        ("--seed -1", "--seed: expected a number from 0 to 4294967295, got -1"),
        ("--projection umap", "--projection: expected pca or tsne, got 'umap'"),
        ("--out figure.jpg", "--out: expected a file .png or .pdf or .svg, got figure.jpg"),
        ("--json .", "--json: expected a file, got the folder ."),
    ],
)
def test_errors_come_before_the_walk(capsys, tmp_path, photo, monkeypatch, words, message):
    def no_walk(*_, **__):
        raise AssertionError("walked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rwpm_fast.scoring.tightening.tighten", no_walk)
    status, out, err = run(capsys, photo, "--out", "figure.png", *words.split())
    assert (status, out) == (2, "") and err.startswith("rwpm-fast figure: ") and message in err
    assert len(err.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_photo_without_a_class_of_six_pixels(capsys, tmp_path):
    Image.new("RGB", (16, 8)).save(tmp_path / "dot.png")
    status, _, err = run(capsys, tmp_path / "dot.png", "--out", tmp_path / "a.png")
    assert status == 2 and "dot.png: expected a class with 6 pixels of the embedding map or more, got none" in err


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_no_photo(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, name, "--out", "a.png")
    assert status == 2 and name in err and not list(tmp_path.iterdir())


def test_a_figure_has_a_name(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["figure"])
    assert "FIGURE" in capsys.readouterr().err
