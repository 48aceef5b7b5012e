"""No command replaces a file that it reads: each way to write, against each kind of file that is read."""

import os

import numpy as np
import pytest
from PIL import Image

from bench.__main__ import main as bench
from rwpm_fast import cli
from rwpm_fast.training import agreement


@pytest.fixture
def place(tmp_path, monkeypatch, weights):
    """Photos, labels and weights; the current folder."""
    random = np.random.default_rng(0)
    for part in ("images", "labels", "out"):
        (tmp_path / part).mkdir()
    Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "images/0001_a.png")
    Image.fromarray(np.tri(48, 64, dtype=np.uint8)).save(tmp_path / "labels/0001_a.png")
    (tmp_path / "dabnet.npz").write_bytes(weights.read_bytes())
    np.savez(tmp_path / "map.npz", embedding=random.normal(size=(4, 5, 6)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def at(path, source="images/0001_a.png"):
    """Keep a file where a result would be written."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.link(source, path)
    return path


EVALUATE = "evaluate --images images --labels labels --network dabnet --weights dabnet.npz --steps 2"
TRACK = "data/dataset_AnomalyTrack"


def score_beside(place):
    return cli.main, "score images --out images", "images/0001_a.png"


def score_to_a_link(place):
    (place / "linked").symlink_to("images")
    return cli.main, "score images/*.png --out linked", "images/0001_a.png"


def score_a_photo_called_like_its_map(place):
    return cli.main, f"score {at('out/a.npy')} --out out --no-panel", "out/a.npy"


def score_over_weights(place):
    at("out/0001_a.npy", "dabnet.npz")
    return cli.main, "score images --out out --network dabnet --weights out/0001_a.npy", "out/0001_a.npy"


def evaluate_over_a_photo(place):
    return cli.main, f"{EVALUATE} --json images/0001_a.png", "images/0001_a.png"


def evaluate_over_labels(place):
    return cli.main, f"{EVALUATE} --csv labels/../labels/0001_a.png", "labels/0001_a.png"


def evaluate_photos_over_labels(place):
    return cli.main, f"{EVALUATE} --csv-photos labels/0001_a.png", "labels/0001_a.png"


def evaluate_over_weights(place):
    return cli.main, f"{EVALUATE} --markdown dabnet.npz", "dabnet.npz"


def evaluate_over_a_linked_photo(place):
    at("store/photo.png")
    (place / "images/0001_a.png").unlink()
    (place / "images/0001_a.png").symlink_to("../store/photo.png")
    return cli.main, f"{EVALUATE} --html store/photo.png", "store/photo.png"


def evaluate_into_one_file(place):
    return cli.main, f"{EVALUATE} --json out/x --csv out/../out/x", "--json and --csv"


def table_over_a_checkpoint(place):
    track = f"--root {smiyc_track(place)} --dataset anomaly_track"
    words = f"evaluate --table S1 {track} --checkpoints pebal=dabnet.npz --json dabnet.npz"
    return cli.main, words, "dabnet.npz"


def submit_fishyscapes(place):
    at("out/0001_segmentation.npy")
    return cli.main, "submit fishyscapes images out", "images/0001_a.png"


def submit_fishyscapes_over_weights(place):
    at("out/submission.json", "dabnet.npz")
    words = "submit fishyscapes images out --network dabnet --weights out/submission.json"
    return cli.main, words, "out/submission.json"


def smiyc_track(place):
    at(f"{TRACK}/images/validation0001.jpg")
    at(f"{TRACK}/labels_masks/validation0001_labels_semantic.png", "labels/0001_a.png")
    return "data"


def submit_smiyc(place):
    at("out/anomaly_p/ours/AnomalyTrack-all/validation0001.hdf5")
    words = f"submit smiyc anomaly_track {smiyc_track(place)} out --name ours"
    return cli.main, words, "validation0001.hdf5"


def submit_smiyc_masks(place):
    at("out/anomaly_masks/ours/AnomalyTrack-all/validation0001.png", "labels/0001_a.png")
    words = f"submit smiyc anomaly_track {smiyc_track(place)} out --name ours --masks 0"
    return cli.main, words, "validation0001.png"


def demo_over_its_photo(place):
    return cli.main, f"demo --photo {at('out/panel.png')} --out out", "out/panel.png"


def demo_over_weights(place):
    at("out/report.html", "dabnet.npz")
    return cli.main, "demo --network dabnet --weights out/report.html --out out", "out/report.html"


def figure_over_its_photo(place):
    return cli.main, "figure tighten images/0001_a.png --out images/0001_a.png", "images/0001_a.png"


def figure_over_weights(place):
    words = "figure tighten images/0001_a.png --network dabnet --weights dabnet.npz --out out/f.png --json dabnet.npz"
    return cli.main, words, "dabnet.npz"


def figure_into_one_file(place):
    return cli.main, "figure tighten images/0001_a.png --out out/f.png --json out/f.png", "--out and --json"


def bench_over_a_map(place):
    return cli.main, "bench --embeddings map.npz --json map.npz", "map.npz"


def all_contenders_over_a_map(place):
    return bench, "--embeddings map.npz --json map.npz", "map.npz"


def training_over_a_photo(place):
    at("out/compact.json")
    return cli.main, "train compact --photos out/compact.json --teacher dabnet.npz --out out", "out/compact.json"


def training_over_its_teacher(place):
    at("out/compact.npz", "dabnet.npz")
    return cli.main, "train compact --photos images --teacher out/compact.npz --out out", "out/compact.npz"


def training_over_its_start(place):
    at("out/compact.npz", "dabnet.npz")
    return cli.main, "train compact --initial-weights out/compact.npz --out out", "out/compact.npz"


def agreement_over_weights(place):
    return agreement.main, "--photos images --teacher dabnet.npz --json dabnet.npz", "dabnet.npz"


COMMANDS = [
    score_beside,
    score_to_a_link,
    score_a_photo_called_like_its_map,
    score_over_weights,
    evaluate_over_a_photo,
    evaluate_over_labels,
    evaluate_photos_over_labels,
    evaluate_over_weights,
    evaluate_over_a_linked_photo,
    evaluate_into_one_file,
    table_over_a_checkpoint,
    submit_fishyscapes,
    submit_fishyscapes_over_weights,
    submit_smiyc,
    submit_smiyc_masks,
    demo_over_its_photo,
    demo_over_weights,
    figure_over_its_photo,
    figure_over_weights,
    figure_into_one_file,
    bench_over_a_map,
    all_contenders_over_a_map,
    training_over_a_photo,
    training_over_its_teacher,
    training_over_its_start,
    agreement_over_weights,
]


def contents(place):
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_input_is_replaced(place, capsys, command):
    main, words, named = command(place)
    before = contents(place)
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and named in err and len(err.splitlines()) == 1
    assert "would" in err and "give" in err
    assert contents(place) == before  # byte by byte, and nothing beside it


def test_the_cache_may_be_the_folder_of_the_photos(place, capsys):
    before = contents(place)
    words = f"{EVALUATE} --scores energy --json out/a.json --cache images"
    assert cli.main(words.split()) == cli.main(words.split()) == 0  # the second finds all there
    assert before.items() <= contents(place).items()


def test_a_name_too_long_for_its_result_is_that_photos_failure(place, capsys):
    photo = at(f"images/{'x' * 253}")  # the map is called four signs longer, which file systems refuse
    assert cli.main(["score", photo, "images/0001_a.png", "--out", "out", "--no-panel"]) == 1
    assert "File name too long" in capsys.readouterr().err
    assert [path.name for path in (place / "out").iterdir()] == ["0001_a.npy"]
