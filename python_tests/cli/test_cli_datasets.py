"""The sub-commands that read data sets by name: check, evaluate, submit."""

import json

import numpy as np
import pytest
from PIL import Image

from rwpm_fast import cli
from rwpm_fast.evaluate.results import COMPONENTS


@pytest.fixture
def root(tmp_path):
    """Two frames of the Anomaly track in SMIYC's layout, and one of its test split."""
    random = np.random.default_rng(0)
    folder = tmp_path / "dataset_AnomalyTrack"
    for part in ("images", "labels_masks"):
        (folder / part).mkdir(parents=True)
    for name in ("validation0001", "validation0002", "0003"):
        Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"images/{name}.jpg")
        truth = np.zeros((48, 64), np.uint8)
        truth[10:30, 10:40], truth[40:] = 1, 255
        if name != "0003":
            Image.fromarray(truth).save(folder / f"labels_masks/{name}_labels_semantic.png")
    return tmp_path


# What evaluations say of the two frames.
FEW = "Anomaly track (RoadAnomaly21): unexpected number of photos in split validation: 10 are published, 2 are here.\n"


def run(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def evaluate(capsys, weights, root, *arguments):
    data = ("--dataset", "anomaly_track", "--root", root)
    return run(capsys, "evaluate", *data, "--network", "dabnet", "--weights", weights, *arguments)


def cells(out):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]


def test_check_as_text_and_as_json(capsys, root):
    status, out, err = run(capsys, "check", "anomaly_track", root)
    assert (status, err) == (1, "")
    assert "layout official" in out and "2 (10 published)" in out and "2 of 64x48" in out and "1 problems" in out
    status, out, _ = run(capsys, "check", "anomaly_track", root, "--json")
    report = json.loads(out)
    assert status == 1 and report["problems"] == {
        "unexpected number of frames": [
            "10 are published, 2 are here (published of each split: validation 10, test 100, all 110)"
        ]
    }
    status, out, _ = run(capsys, "check", "obstacle_track", root / "dataset_AnomalyTrack", "--split", "all")
    assert status == 0 and "nothing is missing or odd" in out


def test_check_says_what_is_wanted(capsys, root):
    status, out, err = run(capsys, "check", "?", root)
    assert (status, out) == (2, "") and "name: expected one of fishyscapes_lost_and_found" in err
    status, _, err = run(capsys, "check", "road_anomaly", root)
    assert status == 2 and "no layout fits" in err and "frame" in err


def test_evaluate_a_data_set(capsys, tmp_path, weights, root):
    file = tmp_path / "numbers.json"
    status, out, err = evaluate(capsys, weights, root, "--steps", 2, "--json", file)
    assert (status, err) == (0, FEW) and "2 of 2 photos" in out
    numbers = json.loads(file.read_text())
    names = {"data": "anomaly_track", "layout": "official", "protocol": "official", "split": "validation"}
    assert numbers["settings"]["runs"][0].items() >= names.items()
    assert {row["positives"] for row in numbers["lines"]} == {2 * 600}
    assert {row["negatives"] for row in numbers["lines"]} == {2 * (40 * 64 - 600)}

    images, labels = (root / "dataset_AnomalyTrack" / part for part in ("images", "labels_masks"))
    for label in labels.iterdir():
        label.rename(labels / label.name.replace("_labels_semantic", ""))
    (images / "0003.jpg").unlink()
    same = run(
        capsys,
        "evaluate",
        "--images",
        images,
        "--labels",
        labels,
        "--network",
        "dabnet",
        "--weights",
        weights,
        "--steps",
        2,
        "--json",
        file,
    )
    assert cells(same[1]) == cells(out)


def test_evaluate_with_published_settings(capsys, tmp_path, weights, root):
    file = tmp_path / "numbers.json"

    def settings(*arguments):
        data = ("--dataset", "anomaly_track", "--root", root, "--network", "dabnet", "--weights", weights)
        status, out, err = run(capsys, "evaluate", *arguments, *data, "--scores", "energy", "--json", file)
        assert (status, err) == (0, FEW)
        numbers = json.loads(file.read_text())
        assert numbers["settings"]["preset"] == arguments[2]
        return out, numbers["lines"][1]["walk"]

    out, paper = settings("mask2anomaly", "--preset", "paper")
    wanted = {"alpha": 0.9, "steps": 5, "temperature": 0.01, "parts": 2, "calibrated": False}
    assert paper == {**wanted, "tolerance": 1e-4}
    assert [row[-2:] for row in cells(out)[2:]] == [["88.62", "14.57"], ["88.98", "15.88"]]
    _, released = settings("pebal", "--preset", "released", "--alpha", 0.5)
    assert released.items() >= {"alpha": 0.5, "steps": 6, "parts": 4, "calibrated": True}.items()


def test_evaluate_adds_component_metrics_from_kept_maps(capsys, tmp_path, weights, root):
    cache, file = tmp_path / "cache", tmp_path / "numbers.json"
    options = ("--steps", 2, "--scores", "energy", "--cache", cache, "--json", file)
    status, out, err = evaluate(capsys, weights, root, "--components", *options)
    assert (status, err) == (0, FEW)
    rows = cells(out)
    binned = ["SMIYC AuROC", "SMIYC AP", "SMIYC FPR95"]
    assert rows[0] == ["walk", "score", "AuROC", "AP", "FPR95", *binned, *COMPONENTS]
    assert [row[:2] for row in rows[2:]] == [["without", "energy"], ["with", "energy"]]
    assert (
        sorted(path.name.split("-")[0] for path in cache.iterdir()) == ["validation0001"] * 2 + ["validation0002"] * 2
    )
    results = json.loads(file.read_text())["lines"]
    for row, numbers in zip(rows[2:], results, strict=True):
        found = numbers["components"]
        assert row[8:11] == [f"{100 * found[key]:.2f}" for key in ("siou", "ppv", "f1")]
        assert row[11:] == [f"{100 * numbers['instances'][key]:.2f}" for key in ("ap", "ap50")]
        assert numbers["instances"]["true"] == 2 and "true objects: components of the labels." in out
        assert row[5:8] == [f"{100 * numbers['smiyc'][key]:.2f}" for key in ("auroc", "ap", "fpr95")]
        assert found["true"] == 2 and len(found["by_threshold"]) == 11
    _, plain, _ = evaluate(capsys, weights, root, "--steps", 2, "--scores", "energy")
    assert [row[:5] for row in rows] == cells(plain)
    times = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    _, again, _ = evaluate(capsys, weights, root, "--components", "obstacle_track", *options)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == times
    assert [row[:5] for row in cells(again)] == cells(plain)


def test_objects_are_told_apart_by_their_numbers(capsys, tmp_path, weights):
    """Two objects that touch are one by the labels, and two by the file that numbers them; a photo may lack it."""
    pytest.importorskip("scipy")
    frames, file = tmp_path / "frames", tmp_path / "numbers.json"
    truth, numbers = np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint16)
    truth[10:30, 10:40], numbers[:, :25], numbers[:, 25:] = 2, 300, 7
    for name in "ab":
        (frames / f"{name}.labels").mkdir(parents=True)
        photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(photo).save(frames / f"{name}.jpg")
        Image.fromarray(truth).save(frames / f"{name}.labels/labels_semantic.png")
    Image.fromarray(numbers).save(frames / "a.labels/labels_instance.png")
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in "ab":
        np.save(maps / f"{name}.npy", (truth == 2) * np.where(numbers == 7, 2.0, 1.0))
    data = ("--dataset", "road_anomaly", "--root", tmp_path)
    sources = {
        "network": ("--network", "dabnet", "--weights", weights, "--scores", "energy"),
        "files": ("--scores-from", f"one={maps}", f"other={maps}"),
    }
    for source in sources.values():
        components = ("evaluate", *data, *source, "--components", "generic", "--json", file)
        status, out, _ = run(capsys, *components)
        assert status == 0 and "true objects: numbered in 1 of 2 photos, else components of the labels." in out
        assert cells(out)[0][-5:] == list(COMPONENTS)
        assert {line["instances"]["true"] for line in json.loads(file.read_text())["lines"]} == {3}
    found = json.loads(file.read_text())["lines"][0]["instances"]
    assert (found["predicted"], found["by_threshold"]) == (2, [found["ap50"]] * 10)  # of which one is an object
    Image.fromarray(numbers[1:]).save(frames / "a.labels/labels_instance.png")
    wanted = "labels_instance.png: expected the size of the labels 48x64, got 47x64"
    for source in sources.values():
        status, out, err = run(capsys, "evaluate", *data, *source, "--components", "generic")
        assert status == 1 and wanted in err
        assert run(capsys, "evaluate", *data, *source)[0] == 0
    assert wanted in run(capsys, "check", "road_anomaly", tmp_path)[1]


def test_tables_of_the_methods_take_what_is_there(capsys, tmp_path, weights, root):
    network = ("--network", "dabnet", "--weights", weights, "--cache", tmp_path / "cache", "--steps", 2)
    files = {kind: tmp_path / "out" / f"table.{kind}" for kind in ("json", "csv", "markdown", "html")}
    out_options = [word for kind, file in files.items() for word in (f"--{kind}", file)]
    status, out, err = run(capsys, "evaluate", "--table", "S2", "--root", root, *network, *out_options)
    assert (status, err) == (0, FEW)
    assert [row[:2] for row in cells(out)[2:]] == [
        ["without", "energy"],
        ["PEBAL, Balanced Energy: alpha 0.99, T 2, n 4, calibrated", "energy"],
        ["Mask2Anomaly: alpha 0.9, T 2, n 2", "energy"],
        ["RbA: alpha 0.99, T 2, n 2", "energy"],
    ]
    assert "road_anomaly is not in" in out and "2 of 2 photos" in out
    assert cells(files["markdown"].read_text()) == cells(out)
    assert len(files["csv"].read_text().splitlines()) == 5
    assert files["html"].read_text().count("<figure") == 2
    lines = json.loads(files["json"].read_text())["lines"]
    assert [line["walk"] and (line["walk"]["alpha"], line["walk"]["parts"]) for line in lines] == [
        None, (0.99, 4), (0.9, 2), (0.99, 2),
    ]  # fmt: skip

    # The same walks, with the figures of the methods: two of four have the settings that are kept already.
    status, out, err = run(capsys, "evaluate", "--table", "S1", "--root", root, *network)
    assert (status, err) == (0, FEW)
    rows = cells(out)
    assert rows[0] == [
        "data set", "walk", "score", "AuROC", "AP", "FPR95", "published AP", "published FPR95"
    ]  # fmt: skip
    title = "Anomaly track (RoadAnomaly21)"
    assert [row[0] for row in rows[2::2]] == [
        f"{method}, {title}" for method in ("PEBAL", "Balanced Energy", "Mask2Anomaly", "RbA")
    ]
    assert rows[3][-2:] == ["51.49", "34.04"] and rows[8][-2:] == ["90.86", "11.59"]
    ours = {line["label"].split(":")[0]: f"{100 * line['ap']:.2f}" for line in lines}
    assert [row[4] for row in rows[2:]] == [
        ours[label]
        for walked in ("PEBAL, Balanced Energy", "PEBAL, Balanced Energy", "Mask2Anomaly", "RbA")
        for label in ("without", walked)
    ]
    assert len(list((tmp_path / "cache").iterdir())) == 2 * 4

    status, out, err = run(capsys, "evaluate", "--table", "S1", "--root", tmp_path / "cache", *network)
    assert (status, out) == (2, "") and "none of fishyscapes_lost_and_found" in err
    plain = root / "road_anomaly"
    (root / "dataset_AnomalyTrack").rename(plain)
    (plain / "labels_masks").rename(plain / "labels")
    for label in (plain / "labels").iterdir():
        label.rename(label.with_name(label.name.replace("_labels_semantic", "")))
    (plain / "images" / "0003.jpg").unlink()
    status, out, err = run(capsys, "evaluate", "--table", "S2", "--root", root, *network)
    assert status == 0 and "RoadAnomaly: 2 of 2 photos" in out  # by the name of its folder
    status, out, err = run(capsys, "evaluate", "--table", "S2", "--root", plain, *network)
    assert (status, out) == (2, "")
    assert "the same photos may be fishyscapes_lost_and_found, road_anomaly, anomaly_track, obstacle_track" in err


def test_several_data_sets_in_one_table(capsys, tmp_path, weights, root):
    (root / "dataset_AnomalyTrack").rename(root / "a")
    static = root / "b"
    for part in ("images", "labels"):
        (static / part).mkdir(parents=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(static / "images" / "1.jpg")
    Image.fromarray(np.eye(48, 64, dtype=np.uint8)).save(static / "labels" / "1.png")
    data = ("--dataset", "anomaly_track", "fishyscapes_static", "--root", root / "a", static)
    network = ("--network", "dabnet", "--weights", weights, "--scores", "energy")
    status, out, err = run(capsys, "evaluate", "rba", *data, *network, "--preset", "paper")
    assert status == 0 and err.splitlines() == [
        FEW.strip(),
        "Fishyscapes Static: unexpected number of photos in split validation: 30 are published, 1 are here.",
    ]
    rows = cells(out)[2:]
    assert [row[0].split()[0] for row in rows] == ["Anomaly"] * 2 + ["Fishyscapes"] * 2
    assert [row[-2:] for row in rows] == [["90.86", "11.59"], ["92.00", "10.15"], ["-", "-"], ["-", "-"]]
    assert "Nothing is published for Fishyscapes Static" in out and "walk: alpha 0.5" in out
    assert "Published: Table S.1, RbA, for orientation." in out
    only = ("--dataset", "fishyscapes_static", "--root", static)
    _, out, _ = run(capsys, "evaluate", "rba", *only, *network, "--preset", "paper")
    assert "Published:" not in out
    status, _, err = run(capsys, "evaluate", *data[:3], "--root", root, root, root, *network)
    assert status == 2 and "--root: expected one folder, or one for each of 2 data sets, got 3" in err


def test_table_n_calibrates_its_rows(capsys, tmp_path, weights):
    random = np.random.default_rng(0)
    for part in ("photos", "truth"):
        (tmp_path / part).mkdir()
    Image.fromarray(random.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(tmp_path / "photos" / "a.png")
    Image.fromarray(np.eye(128, dtype=np.uint8)).save(tmp_path / "truth" / "a.png")
    data = ("--images", tmp_path / "photos", "--labels", tmp_path / "truth", "--cache", tmp_path / "cache")
    network = ("--network", "dabnet", "--weights", weights, "--steps", 2)
    status, out, err = run(capsys, "evaluate", *data, *network, "--table", "n")
    assert (status, err) == (0, "")
    found = {row[0]: row[2:] for row in cells(out)[2:]}
    assert len(found) == 8 and found["n = 2"][-3:] == ["87.34", "5.27", "2.04"] and found["n = 4"][-3:] == ["-"] * 3
    assert found["n = 2"][:2] != found["n = 2, calibrated"][:2] and found["n = 4"][:2] != found["n = 8"][:2]
    status, _, err = run(capsys, "evaluate", *data, *network, "--table", "n", "--calibrate")
    assert status == 2 and "calibrated: sets the rows of table n apart" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", "x", "--positive", 2), "--images, --positive: not with --dataset and --root"),
        (("--preset", "paper"), "--preset: expected a METHOD whose settings to take, of pebal, balanced_energy"),
        (("--table", "S2", "--preset", "mine"), "preset: expected paper or released, got 'mine'"),
        (("--table", "S4", "--components"), "--table: has columns of its own"),
        (("--table", "S4", "--preset", "paper"), "--preset: table S4 has settings of its own"),
        (("--table", "S1", "--checkpoints", "rba=x"), "--checkpoints: names methods and their weights; leave METHOD"),
        (("--table", "S2", "--positive", 7), "--positive: table S2 is of data sets"),
        (("--dataset", "anomaly_track", "anomaly_track"), "--dataset: expected each data set once"),
        (("--weights", "nowhere.npz"), "weights: no such file or folder: nowhere.npz"),
        (("--html", "same", "--csv", "same"), "--csv and --html: both would write same; give each a file of its own"),
        (("--html", "report.html", "--panels", -1), "--panels: expected 0 or more pictures"),
        (("--table", "S2", "--checkpoints", "rba=x"), "leave METHOD and --checkpoints out"),
        (("--checkpoints", "rba=x"), "--checkpoints: only for --table S1"),
        (("--panels", 3), "--panels: expected 0 or more pictures for the report of --html, got 3"),
        (("--processes", 0), "--processes: expected 1 or more, got 0"),
        (("--steps", -1), "steps: expected"),
        (
            ("--components", "road"),
            "--components: expected a track of anomaly_track, obstacle_track, generic, got 'road'",
        ),
        (("--split", "test"), "--split: 1 of 1 frames of test have no labels to evaluate with"),
        (("--split", "all"), "--split: 1 of 3 frames of all have no labels"),
        (("--protocol", "mine"), "protocol: expected one of official, rwpm"),
    ],
)
def test_what_does_not_go_together_is_told_before_any_work(capsys, weights, root, arguments, message):
    status, out, err = evaluate(capsys, weights, root, *arguments)
    assert (status, out) == (2, "") and message in err


def test_checkpoints_are_looked_for_before_any_work(capsys, weights, root, tmp_path):
    table = ("evaluate", "--table", "S1", "--root", root, "--network", "dabnet", "--cache", tmp_path / "cache")
    for pairs, message in (
        (["rba"], "--checkpoints: expected METHOD=FILE, METHOD of pebal"),
        ([f"rba={weights}", f"rba={weights}"], "--checkpoints: expected a method once, got rba twice"),
        ([f"pebal={weights}", "rba=nowhere.pth"], "weights: no such file or folder: nowhere.pth"),
    ):
        status, out, err = run(capsys, *table, "--checkpoints", *pairs)
        assert (status, out) == (2, "") and message in err
        assert not (tmp_path / "cache").exists()


def test_a_split_without_frames(capsys, weights, root):
    folder = root / "dataset_AnomalyTrack"
    for part in ("images", "labels_masks"):
        for file in (folder / part).iterdir():
            file.rename(file.with_name(file.name.replace("validation", "frame")))
    for table in ((), ("--table", "S2")):
        status, out, err = evaluate(capsys, weights, root, *table)
        assert (status, out) == (2, "") and "no frame is of split validation" in err


def test_figures_are_written_before_the_report_fails(capsys, weights, root, tmp_path, monkeypatch):
    from rwpm_fast.evaluate import per_image

    def fails(*_arguments, **_settings):
        raise OSError("a photo went away")

    monkeypatch.setattr(per_image, "panel", fails)
    files = ("--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    status, out, err = evaluate(capsys, weights, root, "--steps", 2, *files)
    assert status == 2 and "| with | energy |" in out and "a photo went away" in err
    assert (tmp_path / "a.json").exists() and not (tmp_path / "a.html").exists()


def test_missing_labels_and_data_sets_without_published_rows(capsys, weights, root):
    folder = root / "dataset_AnomalyTrack"
    arguments = (
        "--images",
        folder / "images",
        "--labels",
        folder / "labels_masks",
        "--network",
        "dabnet",
        "--weights",
        weights,
    )
    status, _, err = run(capsys, "evaluate", *arguments, "--limit", 1, "--components")
    assert status == 2 and "labels missing" in err
    (folder / "labels_masks" / "validation0002_labels_semantic.png").unlink()
    status, out, err = evaluate(capsys, weights, root)
    assert (status, out) == (2, "") and "labels missing for 1: validation0002.jpg" in err


def test_label_values_that_mean_nothing(capsys, weights, root):
    label = root / "dataset_AnomalyTrack" / "labels_masks" / "validation0002_labels_semantic.png"
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(label)
    status, out, err = evaluate(capsys, weights, root, "--steps", 2)
    assert status == 1 and "1 of 2 photos" in out
    assert f"{label}: expected the values 0 inlier, 1 anomaly, 255 void, got 7 (3072 pixels)" in err


def test_labels_that_a_benchmark_keeps_back_are_not_evaluated(capsys, weights, root, tmp_path):
    """Blank files in their place, one or all, stop the evaluation before the first photo or map."""
    maps = tmp_path / "maps"
    maps.mkdir()
    for photo in (root / "dataset_AnomalyTrack/images").iterdir():
        np.save(maps / f"{photo.stem}.npy", np.zeros((48, 64), np.float32))
    label = root / "dataset_AnomalyTrack" / "labels_masks" / "validation0002_labels_semantic.png"
    hidden = label.with_name("0003_labels_semantic.png")
    for file, value, split, count in ((label, 0, "validation", 1), (hidden, 255, "test", 1), (hidden, 255, "all", 2)):
        Image.fromarray(np.full((48, 64), value, np.uint8)).save(file)
        status, out, err = evaluate(capsys, weights, root, "--steps", 2, "--split", split)
        assert (status, out) == (2, "")
        wanted = f"anomaly_track in {root}, split {split}: expected labels of inliers and anomalies, got {count} of a"
        assert wanted in err and f"{file} (all {value})" in err and "public of split validation only" in err
        given = ("--dataset", "anomaly_track", "--root", root, "--split", split, "--scores-from", f"mine={maps}")
        status, out, err = run(capsys, "evaluate", *given, "--extra-scores")
        assert (status, out) == (2, "") and wanted in err
        status, out, _ = run(capsys, "check", "anomaly_track", root, "--split", split)
        assert status == 1 and f"labels of a single value, as hidden ones are: {count}" in out and str(file) in out


def test_a_split_without_anomalies_is_not_evaluated(capsys, weights, tmp_path):
    for folder in ("images", "annotations"):
        file = tmp_path / "train" / folder / "validation/t5/1.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(np.eye(48, 64, dtype=np.uint8) + 1).save(file)
    data = ("--dataset", "street_hazards", "--root", tmp_path, "--split", "validation")
    status, _, err = run(capsys, "evaluate", *data, "--network", "dabnet", "--weights", weights)
    assert status == 2 and "--split: street_hazards has anomalies in test only, got validation" in err


def test_photos_are_named_one_way(capsys, weights, root):
    for some in ((), ("--dataset", "anomaly_track"), ("--root", root), ("--labels", root)):
        status, out, err = run(capsys, "evaluate", *some, "--network", "dabnet", "--weights", weights)
        assert (status, out) == (2, "") and "expected --dataset and --root, or --images and --labels" in err
    status, _, err = run(
        capsys,
        "evaluate",
        "--images",
        root,
        "--labels",
        root,
        "--split",
        "v1",
        "--network",
        "dabnet",
        "--weights",
        weights,
    )
    assert status == 2 and "--split: not with --images and --labels" in err


def test_folders_have_no_track_and_no_preset_of_their_own(capsys, weights, root, tmp_path):
    for part in ("photos", "truth"):
        (tmp_path / part).mkdir()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    Image.fromarray(np.eye(48, 64, dtype=np.uint8)).save(tmp_path / "truth" / "a.png")
    arguments = (
        "--images",
        tmp_path / "photos",
        "--labels",
        tmp_path / "truth",
        "--network",
        "dabnet",
        "--weights",
        weights,
        "--steps",
        2,
    )
    status, _, err = run(capsys, "evaluate", *arguments, "--components")
    assert status == 2 and "and folders has none of its own" in err
    status, _, err = run(capsys, "evaluate", "rba", *arguments, "--preset", "paper")
    assert status == 2 and "nothing is published for folders" in err
    cache = tmp_path / "cache"
    status, out, _ = run(capsys, "evaluate", *arguments, "--components", "generic", "--cache", cache)
    assert status == 0 and "mean F1" in out


def test_submit_fishyscapes(capsys, tmp_path, weights):
    (tmp_path / "input").mkdir()
    for number in (1, 2):
        photo = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / "input" / f"000{number}_x.png")
    arguments = (
        "submit",
        "fishyscapes",
        tmp_path / "input",
        tmp_path / "out",
        "--network",
        "dabnet",
        "--weights",
        weights,
    )
    status, out, err = run(capsys, *arguments, "--steps", 2)
    assert (status, err) == (0, "") and "2 of 2 photos" in out
    assert len(list((tmp_path / "out").glob("000[12]_*.npy"))) == 4
    status, _, err = run(capsys, *arguments, "--steps", 3)
    assert status == 2 and "with another walk" in err
    assert run(capsys, *arguments, "--steps", 3, "--force")[0] == 0
    (tmp_path / "input" / "0003_x.png").write_bytes(b"no picture")
    status, out, err = run(capsys, *arguments, "--steps", 3)
    assert (
        status == 1 and "2 of 3 photos" in out and "0003_x.png: not a picture" in err.replace(f"{tmp_path}/input/", "")
    )


def test_submit_smiyc(capsys, tmp_path, weights, root):
    pytest.importorskip("h5py")
    out = tmp_path / "out"
    arguments = (
        "submit",
        "smiyc",
        "anomaly_track",
        root,
        out,
        "--name",
        "walked",
        "--network",
        "dabnet",
        "--weights",
        weights,
        "--steps",
        2,
    )
    status, text, err = run(capsys, *arguments, "--split", "all")
    assert (status, err) == (0, "unexpected number of photos in split all: 110 are published, 3 are here\n")
    assert "3 maps written" in text and "0 were there" in text and "distinct scores" in text and "AP" in text
    names = {path.name for path in (out / "anomaly_p/walked/AnomalyTrack-all").iterdir()}
    assert names == {"0003.hdf5", "validation0001.hdf5", "validation0002.hdf5"}
    assert "0 maps written" in run(capsys, *arguments)[1]
    status, text, err = run(capsys, *arguments, "--rescale", "spread")
    assert status == 0 and "0 maps written" in text
    assert err.startswith("DeprecationWarning: --rescale spread is now called --rescale equalize; the old name")
    status, _, err = run(capsys, *arguments, "--rescale", "none")
    assert status == 2 and "with another rescale" in err
    status, _, err = run(capsys, *arguments, "--protocol", "rwpm")
    assert status == 2 and "protocol: expected official" in err
