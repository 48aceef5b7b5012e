"""Score maps that are there already: the numbers of the same maps in the process, from every source and form."""

import csv
import io
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from python_tests.evaluate.labeled import SIZE, labeled_photos
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import cli, data
from rwpm_fast.evaluate import ConfigError, EvaluationConfig, capacity, evaluate, evaluate_scores, run
from rwpm_fast.evaluate.report import render_report
from rwpm_fast.io.score_maps import ScoreMapError
from rwpm_fast.ops.maps import Walk
from rwpm_fast.scoring.scorer import Scorer
from rwpm_fast.submission.fishyscapes import write_result
from rwpm_fast.submission.smiyc import write_map


@pytest.fixture
def dataset(tmp_path):
    return labeled_photos(tmp_path, 4)


@pytest.fixture
def maps(dataset):
    """Maps of two methods by the id of their frame."""
    random = np.random.default_rng(0)
    made = {"good": {}, "poor": {}}
    for frame in dataset:
        labels = frame.read_labels()
        for method, contrast in (("good", 2.0), ("poor", 1.0)):
            noise = random.normal(size=SIZE)
            made[method][frame.id] = (noise + contrast * (labels == 1)).astype(np.float32)
    return made


@pytest.fixture
def folders(tmp_path, maps):
    """The same maps in folders of .npy."""
    for method, of_frames in maps.items():
        (tmp_path / method).mkdir()
        for frame_id, scores in of_frames.items():
            np.save(tmp_path / method / f"{frame_id}.npy", scores)
    return {method: tmp_path / method for method in maps}


def numbers(result):
    """All numbers of a result, without times."""
    lines = json.loads(json.dumps(result.as_dict()["lines"]))
    return [{name: value for name, value in line.items() if "seconds" not in name and name != "fps"} for line in lines]


def numbered(dataset, folder):
    """The data set, with files that tell the objects of the first two frames apart at every quarter of the width."""
    frames = list(dataset.frames)
    for index, frame in enumerate(frames[:2]):
        file = folder / f"objects_{frame.id}.png"
        Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), SIZE[1] // 4)[None].repeat(SIZE[0], 0)).save(file)
        frames[index] = replace(frame, instances=file)
    return replace(dataset, frames=tuple(frames))


def test_files_have_the_numbers_of_the_process(tmp_path, dataset):
    dataset = numbered(dataset, tmp_path)
    scorer = Scorer(TinyNetwork(), walk=Walk(steps=2))
    settings = {"fpr_rule": "rwpm", "track": "obstacle_track"}
    swept = evaluate(scorer, dataset, scores=["energy"], **settings)
    names = {"without": tmp_path / "plain", "with": tmp_path / "walked"}
    for label, folder in names.items():
        folder.mkdir()
        for image in swept.images:
            np.save(folder / f"{image.frame.id}.npy", swept.score_map(image, label, "energy"))
    result = evaluate_scores(dataset, names, fpr_rule="rwpm", components="obstacle_track")
    assert [row.label for row in result.rows] == ["without", "with"] and result.reference == "without"
    given = result.sweeps["folders"]
    for row in result.rows:
        key, of_given = (row.label, "energy"), (row.label, "given")
        assert row.result == swept.results[key]
        assert (row.binned, row.components) == (swept.binned[key], swept.components[key])
        assert row.instances == swept.instances[key] and row.instances.true > row.components.true
        assert given.curves[of_given].ap() == swept.curves[key].ap()
        for image, other in zip(given.images, swept.images, strict=True):
            assert image.results[of_given] == other.results[key]
            assert np.array_equal(given.score_map(image, *of_given), swept.score_map(other, *key))
    assert np.isnan(result.rows[0].fps)


def test_every_source_gives_the_same(dataset, maps, folders):
    expected = numbers(evaluate_scores(dataset, folders))
    files = {frame.id: folders["poor"] / f"{frame.id}.npy" for frame in dataset}
    stacked = torch.from_numpy(np.stack(list(maps["poor"].values())))
    good = maps["good"]
    for poor in (maps["poor"], files, stacked, iter(stacked), (scores for scores in stacked)):
        assert numbers(evaluate_scores(dataset, {"good": good, "poor": poor})) == expected
    alone = evaluate_scores(dataset.frames, (scores for scores in maps["poor"].values()))
    assert [row.label for row in alone.rows] == ["scores"] and alone.paired_cells() == []
    assert alone.rows[0].result.ap == expected[1]["ap"]
    assert evaluate_scores(dataset, maps["poor"]).rows[0].result == alone.rows[0].result
    assert evaluate_scores(dataset, folders["poor"]).rows[0].result == alone.rows[0].result


def test_what_we_write_ourselves(tmp_path, dataset, maps):
    toolkit, server = tmp_path / "toolkit", tmp_path / "server"
    toolkit.mkdir(), server.mkdir()
    half = {name: scores.astype(np.float16) for name, scores in maps["good"].items()}
    for name, scores in half.items():
        write_map(toolkit / f"{name}.hdf5", scores)
    photos = [tmp_path / "images" / f"{frame.id}.png" for frame in dataset]
    for number, photo in enumerate(photos):
        photo.rename(photo.with_name(f"{number:04}_{photo.name}"))
        label = tmp_path / "labels" / photo.name
        label.rename(label.with_name(f"{number:04}_{photo.name}"))
        write_result(server, f"{number:04}", maps["good"][photo.stem], np.zeros(SIZE, np.uint8))
    renamed = data.folders(tmp_path / "images", tmp_path / "labels")
    by_server = evaluate_scores(renamed, server).rows[0].result
    assert by_server == evaluate_scores(renamed, list(maps["good"].values())).rows[0].result
    by_toolkit = [h5py.File(toolkit / f"{frame.id}.hdf5")["value"][:] for frame in dataset]
    assert (
        evaluate_scores(renamed, by_toolkit).rows[0].result
        == evaluate_scores(renamed, list(half.values())).rows[0].result
    )


def test_lower_scores_may_be_the_anomalies(dataset, maps):
    expected = evaluate_scores(dataset, maps)
    turned = {name: -scores for name, scores in maps["poor"].items()}
    given = {"good": maps["good"], "poor": turned}
    assert numbers(evaluate_scores(dataset, given, lower_is_anomalous=["poor"])) == numbers(expected)
    both = {"good": {name: -scores for name, scores in maps["good"].items()}, "poor": turned}
    assert numbers(evaluate_scores(dataset, both, lower_is_anomalous=True)) == numbers(expected)


def test_maps_of_another_size(dataset, maps):
    small = {name: scores[::2, ::2] for name, scores in maps["good"].items()}
    refused = evaluate_scores(dataset, small)
    assert len(refused.failures) == 4
    assert all("expected the labels' size 40x72, got 20x36" in reason for reason in refused.failures.values())
    nearest = evaluate_scores(dataset, small, resize_scores="nearest").rows[0].result
    doubled = {name: scores.repeat(2, 0).repeat(2, 1) for name, scores in small.items()}
    assert nearest == evaluate_scores(dataset, doubled).rows[0].result
    assert nearest != evaluate_scores(dataset, small, resize_scores="bilinear").rows[0].result


def test_a_map_that_cannot_be_used_leaves_its_photo_out_of_every_method(tmp_path, dataset, maps, folders):
    others = replace(dataset, frames=dataset.frames[1:])
    expected = evaluate_scores(others, maps, extra_scores=True)
    broken = maps["poor"]["0"].copy()
    broken[3, 4:6] = np.nan
    np.save(folders["poor"] / "0.npy", broken)
    for good in (folders["good"], iter(maps["good"].values())):
        result = evaluate_scores(dataset, {"good": good, "poor": folders["poor"]})
        assert list(result.failures.values()) == [
            f"{folders['poor'] / '0.npy'}: expected finite scores, got 2 NaN and 0 infinite"
        ]
        assert numbers(result) == numbers(expected)


@pytest.mark.parametrize("given", ["good", "stream"])
def test_objects_that_cannot_be_read_leave_their_photo_out_of_component_metrics(tmp_path, dataset, maps, given):
    dataset = numbered(dataset, tmp_path)
    others = replace(dataset, frames=dataset.frames[1:])
    expected = evaluate_scores(others, maps["good"], extra_scores=True, components="generic")
    dataset.frames[0].instances.write_bytes(b"no picture")

    def good():
        return maps["good"] if given == "good" else iter(maps["good"].values())

    result = evaluate_scores(dataset, good(), components="generic")
    assert list(result.failures) == [str(dataset.frames[0].photo)] and numbers(result) == numbers(expected)
    assert not evaluate_scores(dataset, good()).failures


def test_maps_in_order_are_as_many_as_frames(dataset, maps):
    stream = list(maps["good"].values())
    with pytest.raises(LookupError, match="scores: expected a map for each of 4 frames, got 3; the next is of 3"):
        evaluate_scores(dataset, iter(stream[:3]))
    with pytest.raises(LookupError, match="scores: expected a map for each of 4 frames, got more"):
        evaluate_scores(dataset, iter([*stream, stream[0]]))
    with pytest.raises(ScoreMapError, match="scores: expected a map for each of 4 frames, got 3"):
        evaluate_scores(dataset, stream[:3])
    with pytest.raises(ScoreMapError, match="scores: expected a map for each frame by its id, got none for 3"):
        evaluate_scores(dataset, {name: maps["good"][name] for name in "012"})
    with pytest.raises(ScoreMapError, match="scores: expected ids of the data set's frames, got other"):
        evaluate_scores(dataset, {**maps["good"], "other": stream[0]})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"network": "compact"}, "scores_from: no network runs; leave network out"),
        ({"device": "cuda"}, "scores_from: no network runs; leave device out"),
        ({"walk": {"steps": 2}}, "leave walk out"),
        ({"network_settings": {"size": (40, 72)}}, "leave network_settings out"),
        ({"resize_scores": "area"}, "resize_scores: expected nearest or bilinear, got 'area'"),
        ({"png_range": (1.0, 0.0)}, "png_range: expected two finite scores, the lower one first"),
        ({"lower_is_anomalous": ["other"]}, "lower_is_anomalous: expected methods of a, got 'other'"),
        ({"processes": 2}, "processes: expected 1 for maps that come one by one, got 2"),
        ({"scores_from": {}}, "scores_from: expected the score maps of a method or more, got none"),
        ({"scores_from": None}, "png_range: only for scores_from"),
    ],
)
def test_settings_that_do_not_go_together(dataset, settings, reason):
    given = {"datasets": dataset, "scores_from": {"a": iter([])}, "png_range": (0.0, 1.0), **settings}
    with pytest.raises(ConfigError) as error:
        run(EvaluationConfig(**given))
    assert reason in str(error.value)


def test_what_memory_does_not_hold_is_told_before_the_first_photo(dataset, folders, monkeypatch):
    told = []
    config = EvaluationConfig(datasets=dataset, scores_from=folders)
    run(config, on_remark=told.append)
    assert told == []
    monkeypatch.setattr(capacity, "available_memory", lambda: 1000)
    run(config, on_remark=told.append, on_image=lambda *_: told.append("photo"))
    assert "score maps of 4 photos" in told[0] and "two passes over the files" in told[0] and told[1:] == ["photo"] * 4


def test_methods_are_compared_with_the_first(dataset, folders):
    result = evaluate_scores(dataset, {"good": folders["good"], "again": folders["good"], "poor": folders["poor"]})
    good, again, poor = result.rows
    assert result.paired(good) is None
    same, worse = result.paired(again), result.paired(poor)
    assert same.pooled_ap.change == same.pooled_ap.low == same.pooled_ap.high == 0 and same.pooled_ap.holds_zero
    assert worse.pooled_ap.low < worse.pooled_ap.change == poor.result.ap - good.result.ap < worse.pooled_ap.high < 0
    assert not worse.pooled_ap.holds_zero and worse.pooled_fpr95.change > 0
    assert abs(worse.pooled_ap.counting_error) < 1e-12
    text = result.markdown()
    assert "means over photos good → the other method" in text
    assert "pooled AP change +0.00 (+0.00 to +0.00, holds zero)" in text
    assert f"pooled AP change {worse.pooled_ap.text()}" in text and "holds zero" not in worse.pooled_ap.text()
    record = json.loads(json.dumps(result.as_dict()))
    assert record["reference"] == "good" and record["lines"][2]["against_reference"] == worse.as_dict()
    lines = list(csv.DictReader(io.StringIO(result.csv())))
    assert lines[0]["pooled AP change"] == ""
    assert float(lines[2]["pooled AP change, low"]) == pytest.approx(100 * worse.pooled_ap.low)


def test_a_walk_has_the_interval_of_its_pool_too(dataset):
    result = run(EvaluationConfig(network=Scorer(TinyNetwork(), walk=Walk(steps=2)), datasets=dataset))
    walked = result.paired(result.rows[1]).pooled_ap
    assert walked.low <= walked.change <= walked.high
    assert walked.change == result.rows[1].result.ap - result.rows[0].result.ap
    assert "pooled AP change" in result.markdown() and "with theirs (1000 samples)" in result.markdown()


def test_report_of_methods(dataset, folders):
    page = render_report(evaluate_scores(dataset, folders), panels=1)
    assert "folders, given: AP" in page and "from good to poor." in page
    assert "Photos, given, good and poor" in page and page.count("<img") == 1 + 1
    assert "walk" not in page.replace("walks", "").split("Settings and machine")[0].split("</style>")[1]
    alone = render_report(evaluate_scores(dataset, folders["good"]))
    assert "no walk to compare" not in alone and alone.count("<img") == 1


def test_command(tmp_path, dataset, maps, folders, capsys):
    start = ["evaluate", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    files = ["--json", str(tmp_path / "r.json"), "--figure", str(tmp_path / "f.png"), "--figure-photos", "1"]
    given = ["--scores-from", *(f"{name}={folder}" for name, folder in folders.items())]
    assert cli.main([*start, *given, *files]) == 0
    out = capsys.readouterr().out
    expected = evaluate_scores(dataset, folders)
    assert expected.markdown() in out and "folders: 4 of 4 photos\n" in out
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["lines"] == json.loads(json.dumps(expected.as_dict()["lines"]).replace("NaN", "null"))
    assert "--scores-from good=" in record["command"]
    assert record["settings"]["scores_from"] == {name: str(folder) for name, folder in folders.items()}
    assert Image.open(tmp_path / "f.png").size[0] > 100

    assert cli.main([*start, *given, "--processes", "2", "--json", str(tmp_path / "two.json")]) == 0
    assert json.loads((tmp_path / "two.json").read_text())["lines"] == record["lines"]

    for name, scores in maps["good"].items():
        low, high = -6.0, 8.0
        Image.fromarray(np.round((scores - low) / (high - low) * 65535).astype(np.uint16)).save(
            tmp_path / "good" / f"{name}.png"
        )
        (folders["good"] / f"{name}.npy").unlink()
    assert cli.main([*start, *given, "--png-range", "-6", "8", "--json", str(tmp_path / "png.json")]) == 0
    close = json.loads((tmp_path / "png.json").read_text())["lines"]
    assert close[0]["ap"] == pytest.approx(record["lines"][0]["ap"], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--scores-from", "good"], "--scores-from: expected NAME=DIR, got 'good'"),
        (["--scores-from", "a=x", "a=y"], "--scores-from: expected a method once, got a twice"),
        (["--scores-from", "a=nowhere"], "nowhere: expected a folder of score maps, got none"),
        (["--scores-from", "a=images"], "a score map for each of 4 frames"),
        (["--scores-from", "a=good", "--steps", "2"], "--scores-from: no network runs; leave --walk out"),
        (["--scores-from", "a=good", "--size", "40", "72"], "leave the network's settings (--size, --leave-out"),
        (["--lower-is-anomalous"], "--lower-is-anomalous: only for --scores-from"),
        (["--scores-from", "a=good", "--json", "good/0.npy"], "would replace good/0.npy, which is read"),
    ],
)
def test_command_refuses(tmp_path, folders, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", "--images", "images", "--labels", "labels", *words]) == 2
    assert reason in capsys.readouterr().err
