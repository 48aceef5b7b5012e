"""The methods of SynBoost on the command line, with a small stand-in for the package's weights."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from python_tests.synboost.parts import NO_ENSEMBLE, put_own_set, put_training
from rwpm_fast import Scorer, cli, networks, synboost
from rwpm_fast.io.images import read_image


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with photos and their labels, as the current one."""
    put_own_set(tmp_path / "weights", monkeypatch)
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    track = tmp_path / "smiyc/dataset_AnomalyTrack"
    folders = [tmp_path / "photos", tmp_path / "labels", track / "images", track / "labels_masks"]
    for folder in folders:
        folder.mkdir(parents=True)
    for number in (1, 2):
        pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        truth = np.zeros((48, 64), np.uint8)
        truth[10:20, 10:30], truth[40:] = 1, 255
        names = [f"{number:04}_a.png"] * 2
        names += [f"validation{number:04}.jpg", f"validation{number:04}_labels_semantic.png"]
        for folder, name, values in zip(folders, names, (pixels, truth) * 2, strict=True):
            Image.fromarray(values).save(folder / name)
    return tmp_path


def run(capsys, command):
    status = cli.main(command.split())
    out, err = capsys.readouterr()
    return status, out, err


def chain():
    return synboost.SynBoostScorer(synboost.load("synboost", Scorer(networks.load("compact"))))


def test_score_as_published(capsys, place):
    status, out, err = run(capsys, "score photos --out maps --method synboost")
    assert (status, err) == (0, "")
    assert "chain" in out and "walk 0 ms" in out
    expected = chain()(read_image(place / "photos/0001_a.png")).score.numpy()
    np.testing.assert_array_equal(np.load("maps/0001_a.npy"), expected)
    assert Image.open("maps/0001_a.png").width > 500


def test_a_training_scores(capsys, place):
    put_training(place / "run", {"synboost": NO_ENSEMBLE})
    assert run(capsys, "score photos/0001_a.png --out maps --no-panel --method synboost --trained run")[0] == 0
    photo = read_image(place / "photos/0001_a.png")
    pipeline = synboost.load("synboost", Scorer(networks.load("compact")), trained="run")
    np.testing.assert_array_equal(np.load("maps/0001_a.npy"), pipeline(photo).score.numpy())
    assert not np.array_equal(pipeline(photo).score, chain()(photo).score)
    assert run(capsys, "submit fishyscapes photos out --method synboost --trained run")[0] == 0
    np.testing.assert_array_equal(np.load("out/0001_anomaly.npy"), pipeline(photo).score.numpy())


def test_score_with_its_score_walked(capsys, place):
    words = "score photos/0001_a.png --out maps --method resynthesis --walk-values score --steps 2"
    assert run(capsys, words)[0] == 0
    walked = np.load("maps/0001_a.npy")
    assert run(capsys, "score photos/0001_a.png --out plain --no-panel --method resynthesis")[0] == 0
    plain = np.load("plain/0001_a.npy")
    assert walked.std() < plain.std() and plain.min() <= walked.min() and walked.max() <= plain.max()
    assert Image.open("maps/0001_a.png").width > 500


def test_score_without_a_walk(capsys, place):
    assert run(capsys, "score photos --out maps --score energy --walk-values none")[0] == 0
    expected = Scorer(networks.load("compact"), "energy")(read_image(place / "photos/0002_a.png")).score
    np.testing.assert_array_equal(np.load("maps/0002_a.npy"), expected.numpy())


EVALUATE = "evaluate synboost --images photos --labels labels --steps 2"


def test_evaluate_resumes_and_writes_its_rows(capsys, place, monkeypatch):
    status, out, err = run(capsys, f"{EVALUATE} --cache maps --json e.json --csv e.csv --html e.html --panels 1")
    assert (status, err) == (0, "")
    numbers = json.loads((place / "e.json").read_text())
    rows = [(line["label"], line["score"]) for line in numbers["lines"]]
    labels = ["without", "with", "score walked"]
    assert rows == [(label, score) for score in ("synboost", "entropy") for label in labels]
    without, walked, after = numbers["lines"][:3]
    assert without["walk"] is None and "walk_values" not in walked["walk"] and after["walk"]["walk_values"] == "score"
    assert len({line["ap"] for line in numbers["lines"][:3]}) == 3
    assert numbers["lines"][3]["ap"] == numbers["lines"][5]["ap"]  # the entropy does not walk with the score
    assert "score walked" in (place / "e.html").read_text() and "score walked" in out
    lines = list(csv.DictReader(io.StringIO((place / "e.csv").read_text())))
    assert [line["label"] for line in lines] == labels * 2 and lines[2]["walk_values"] == "score"

    with monkeypatch.context() as patch:  # nothing runs again
        patch.setattr(Scorer, "embed", None)
        assert run(capsys, f"{EVALUATE} --cache maps --json again.json")[::2] == (0, "")
    assert json.loads((place / "again.json").read_text())["lines"] == numbers["lines"]
    files = sorted(place.glob("maps/*"))
    assert len(files) == 6
    put_training(place / "run", {"synboost": NO_ENSEMBLE})  # other weights of the ensemble
    assert run(capsys, f"{EVALUATE} --cache maps --limit 1 --trained run")[0] == 0
    assert len(list(place.glob("maps/*"))) == 9


def test_submit(capsys, place):
    assert run(capsys, "submit fishyscapes photos out --method synboost")[::2] == (0, "")
    expected = chain()(read_image(place / "photos/0001_a.png"))
    np.testing.assert_array_equal(np.load("out/0001_anomaly.npy"), expected.score.numpy())
    settings = json.loads((place / "out/submission.json").read_text())["settings"]
    assert settings["method"] == settings["score"] == "synboost" and settings["chain"]["minmax"] == "range"
    status, _, err = run(capsys, "submit fishyscapes photos out --method resynthesis")
    assert status == 2 and "with another score, method, chain" in err


def test_submit_smiyc_has_a_name_and_a_method(capsys, place):
    pytest.importorskip("h5py")
    words = "submit smiyc anomaly_track smiyc out --split all"
    status, _, err = run(capsys, f"{words} --name ours --method synboost")
    assert status == 0 and err == "unexpected number of photos in split all: 110 are published, 2 are here\n"
    status, _, err = run(capsys, f"{words} --method old --steps 2")
    assert status == 0 and err.startswith("DeprecationWarning: --method old is now called --name old;")
    assert {path.name for path in (place / "out/anomaly_p").iterdir()} == {"ours", "old"}
    record = json.loads(next(place.glob("out/anomaly_p/old/*.json")).read_text())
    assert record["settings"]["score"] == "energy" and "method" not in record["settings"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("score photos --out o --method mine", "--method: expected one of synboost, resynthesis, got 'mine'"),
        ("score photos --out o --method synboost --steps 2", "--steps: a setting of the walk, and nothing walks"),
        ("score photos --out o --method synboost --no-walk-padding", "--no-walk-padding: a setting of the walk, and"),
        ("submit fishyscapes photos o --method resynthesis --no-walk-padding", "--no-walk-padding: a setting of the"),
        ("score photos --out o --vgg19 nowhere", "--vgg19: only for --method synboost or resynthesis"),
        ("score photos --out o --method synboost --vgg19 x", "--dissimilarity: expected a file beside that of vgg19"),
        ("score photos --out o --walk-values score", "walk_values: expected auto, embeddings, logits or masks, got"),
        (f"{EVALUATE} --image-encoder x", "--dissimilarity: expected a file beside that of image_encoder"),
        (f"{EVALUATE} --walk-values score", "--walk-values: expected one of auto,"),
        (f"{EVALUATE} --preset paper", "--preset: nothing is published for synboost"),
        (f"{EVALUATE} --scores resynthesis", "name: expected one of synboost, dissimilarity, energy"),
        ("evaluate --images photos --labels labels --vgg19 x", "--vgg19: only for the METHOD synboost or resynthesis"),
        ("score photos --out o --trained weights", "--trained: only for --method synboost or resynthesis"),
        ("score photos --out o --method synboost --trained x", "--trained: no such folder: x"),
        ("score photos --out o --method synboost --trained photos", "--trained: expected a folder with a training of"),
        (
            "score photos --out o --method synboost --trained weights --dissimilarity x",
            "--dissimilarity: synboost as trained in weights does not read it; leave it out",
        ),
        (f"{EVALUATE} --trained x", "trained: no such folder: x"),
        (f"{EVALUATE} --trained weights --vgg19 x", "--vgg19: synboost as trained in weights does not read it"),
        ("submit smiyc anomaly_track smiyc out --method synboost", "--name: expected the name of the method"),
        ("demo --walk-values none", "--walk-values: expected what walks"),
    ],
)
def test_errors_name_the_option(capsys, place, words, message):
    status, out, err = run(capsys, words)
    assert (status, out) == (2, "") and message in err
