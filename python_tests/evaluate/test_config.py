"""Configs: what the command line fills, from Python, with the same numbers; what does not go together."""

import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from PIL import Image

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import cli, networks
from rwpm_fast.baselines import KnnWalk
from rwpm_fast.data import folders, open_dataset
from rwpm_fast.evaluate import ConfigError, EvaluationConfig, evaluate, make_plan, run, run_plan
from rwpm_fast.evaluate.report import render_report
from rwpm_fast.io.files import write_json
from rwpm_fast.ops.maps import Walk
from rwpm_fast.scoring.scorer import Scorer

TIMES = ("network_seconds_median", "walk_seconds_median", "fps")


@pytest.fixture
def root(tmp_path):
    """Three frames of the Anomaly track in SMIYC's layout."""
    random = np.random.default_rng(0)
    folder = tmp_path / "data" / "dataset_AnomalyTrack"
    for part in ("images", "labels_masks"):
        (folder / part).mkdir(parents=True)
    for name in ("validation0001", "validation0002", "validation0003"):
        Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"images/{name}.jpg")
        truth = np.zeros((48, 64), np.uint8)
        truth[10:30, 10:40], truth[40:] = 1, 255
        Image.fromarray(truth).save(folder / f"labels_masks/{name}_labels_semantic.png")
    return folder.parent


@pytest.fixture
def photos(root):
    """The first two frames as any two folders."""
    folder = root / "dataset_AnomalyTrack"
    for label in (folder / "labels_masks").iterdir():
        label.rename(label.with_name(label.name.replace("_labels_semantic", "")))
    return folders(folder / "images", folder / "labels_masks", limit=2)


def without_times(record):
    """A record without what differs from run to run, and without the command."""
    record = {name: value for name, value in record.items() if name != "command"}
    lines = [{name: value for name, value in line.items() if name not in TIMES} for line in record["lines"]]
    return {**record, "lines": lines}


def recorded(result, folder):
    """The record of a result as its JSON file has it."""
    write_json(folder / "run.json", result.as_dict())
    return without_times(json.loads((folder / "run.json").read_text()))


TRACK = "--dataset anomaly_track"


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (
            f"{TRACK} --steps 2 --components --scores energy entropy --fpr-rule pebal --limit 2",
            {
                "datasets": "anomaly_track",
                "walk": {"steps": 2},
                "components": True,
                "scores": ["energy", "entropy"],
                "fpr_rule": "pebal",
                "limit": 2,
            },
        ),
        (
            f"rba {TRACK} --network compact --preset released --alpha 0.5 --no-walk-padding --walk-values logits",
            {
                "method": "rba",
                "datasets": ["anomaly_track"],
                "network": "compact",
                "preset": "released",
                "walk": {"alpha": 0.5},
                "walk_padding": False,
                "walk_values": "logits",
            },
        ),
        ("--table S1 --network compact", {"table": "S1", "network": "compact"}),
        ("--table S2 --steps 1", {"table": "S2", "walk": {"steps": 1}}),
        (f"--table S4 {TRACK} --threads 1", {"table": "S4", "datasets": ("anomaly_track",), "threads": 1}),
    ],
    ids=["scores", "preset", "S1", "S2", "S4"],
)
def test_run_gives_what_the_command_line_gives(tmp_path, root, words, fields):
    file, cache = tmp_path / "cli.json", tmp_path / "cache"
    assert cli.main(["evaluate", *words.split(), *map(str, ("--root", root, "--json", file, "--cache", cache))]) == 0
    record = without_times(json.loads(file.read_text()))
    assert record["lines"] and all(line["positives"] for line in record["lines"])
    result = run(EvaluationConfig(root=root, **fields))
    assert recorded(result, tmp_path) == record
    assert not result.failures and result.command == ""


def test_run_gives_what_the_command_line_gives_of_two_folders(tmp_path, root, photos):
    folder, file = root / "dataset_AnomalyTrack", tmp_path / "cli.json"
    data = ("--images", folder / "images", "--labels", folder / "labels_masks", "--limit", 2)
    assert cli.main(["evaluate", *map(str, (*data, "--steps", 2, "--json", file))]) == 0
    result = run(EvaluationConfig(datasets=photos, walk={"steps": 2}))
    assert recorded(result, tmp_path) == without_times(json.loads(file.read_text()))


@pytest.mark.slow
def test_processes_give_the_result_of_one(tmp_path, root):
    config = EvaluationConfig(datasets="anomaly_track", root=root, walk={"steps": 2}, threads=1)
    alone, two = run(config), run(replace(config, processes=2, cache=tmp_path / "maps"))
    assert [row.result for row in two.rows] == [row.result for row in alone.rows]
    assert two.settings == {**alone.settings, "processes": 2}
    one, other = (next(iter(result.sweeps.values())) for result in (alone, two))
    assert [image.results for image in one.images] == [image.results for image in other.images]
    # The score maps are in the folder, so that this process can draw all of them.
    for first, second in zip(one.images, other.images, strict=True):
        np.testing.assert_array_equal(one.score_map(first, "with", "energy"), other.score_map(second, "with", "energy"))
    assert render_report(two, panels=3).count("<figure") == 3
    # In memory they stay in the processes that made them.
    shared = pickle.loads(pickle.dumps(alone))
    with pytest.raises(OSError, match="only in the memory of the process that made it; give a cache folder"):
        render_report(shared, panels=1)


def test_a_ready_network(root):
    network = TinyNetwork()
    dataset = open_dataset("anomaly_track", root)
    result = run(EvaluationConfig(network=network, datasets=dataset, walk={"steps": 3}, limit=2))
    assert network.passes == 2 and result.settings["runs"][0]["network"] == "tiny"
    assert result.settings["device"] == "cpu"
    wanted = evaluate(Scorer(network, walk=Walk(steps=3, tolerance=1e-4)), dataset.frames[:2])
    assert {(row.label, row.score): row.result for row in result.rows} == wanted.results
    table = run(EvaluationConfig(network=network, datasets=dataset, table="S1", limit=1))
    assert len(table.rows) == 8 and "RbA, Anomaly track (RoadAnomaly21): tiny, 1 photos" in table.markdown()


@pytest.mark.parametrize(
    ("walk", "settings"),
    [
        (Walk(steps=3, parts=2), {"alpha": 0.99, "steps": 3, "temperature": 0.01, "tolerance": 1e-4, "parts": 2}),
        (
            KnnWalk(5, "cosine", steps=3),
            {"neighbors": 5, "weights": "cosine", "alpha": 0.99, "steps": 3, "temperature": 0.01, "parts": 1},
        ),
        (None, None),
    ],
    ids=["softmax", "knn", "none"],
)
def test_a_ready_scorer(root, walk, settings):
    scorer = Scorer(TinyNetwork(), "entropy", walk, calibrated=True, walk_values="embeddings")
    dataset = open_dataset("anomaly_track", root)
    result = run(EvaluationConfig(network=scorer, datasets=dataset))
    assert {(row.label, row.score): row.result for row in result.rows} == evaluate(
        scorer, dataset, scores=["entropy"]
    ).results
    assert result.rows[-1].settings == (settings and {**settings, "calibrated": True})
    assert result.settings["walk_values"] == "embeddings"


class Reversed(torch.nn.Module):
    """A walk that is none of this package's."""

    parts = 1

    def forward(self, embedding_map, value_map=None, mask=None):
        return (embedding_map if value_map is None else value_map).flip(-1)


def test_a_walk_of_another_kind_is_recorded_by_its_name(root):
    scorer = Scorer(TinyNetwork(), walk=Reversed())
    result = run(EvaluationConfig(network=scorer, datasets=open_dataset("anomaly_track", root)))
    assert result.rows[-1].settings == {"walk": "Reversed()", "calibrated": False}
    assert result.rows[0].result != result.rows[-1].result


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"table": "S9"}, "table: expected one of S1, S2, 4, S3, S4, n, got 'S9'"),
        ({"limit": 0}, "limit: expected 1 or more, got 0"),
        ({"threads": 0}, "threads: expected 1 or more, got 0"),
        ({"processes": -1}, "processes: expected 1 or more, got -1"),
        (
            {"method": "mine"},
            "method: expected one of pebal, balanced_energy, mask2anomaly, rba, synboost, resynthesis, got 'mine'",
        ),
        (
            {"walk": {"step": 3}},
            "walk: expected settings of alpha, steps, temperature, tolerance, parts, anchor, anchor_share, got 'step'",
        ),
        ({"table": "S4", "components": True}, "table: has columns of its own; leave components out"),
        ({"table": "S4", "preset": "paper"}, "preset: table S4 has settings of its own; leave it out"),
        ({"checkpoints": {"rba": "x"}}, "checkpoints: only for table S1 and 4; give a network's file by weights"),
        (
            {"table": "S1", "checkpoints": {"mine": "x"}},
            "checkpoints: expected methods of pebal, balanced_energy, mask2anomaly, rba, got 'mine'",
        ),
        ({"table": "S1"}, "table S1: expected checkpoints METHOD=FILE ..., or method and weights, or a network"),
        ({"table": "S2", "root": None, "datasets": ()}, "table S2: expected root, the folder around the data sets"),
        ({"datasets": ()}, "datasets: expected one or more"),
        ({"root": None}, "root: expected the folder around the data sets, or one for each"),
        ({"datasets": ["anomaly_track"] * 2}, "datasets: expected each data set once"),
        ({"components": "road"}, "components: expected a track of anomaly_track, obstacle_track, generic, got 'road'"),
        ({"preset": "paper"}, "preset: expected a method whose settings to take, of pebal"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_errors_name_the_field(root, fields, message):
    config = EvaluationConfig(**{"datasets": "anomaly_track", "root": root, **fields})
    with pytest.raises(ConfigError) as caught:
        make_plan(config)
    assert str(caught.value).startswith(message)


def test_how_data_sets_are_opened(root):
    config = EvaluationConfig(datasets="anomaly_track", root=root, protocol="rwpm", layout="official", limit=2)
    (experiment,) = make_plan(config).experiments
    dataset = experiment.dataset
    assert (dataset.protocol, dataset.layout, len(dataset), len(experiment.frames)) == ("rwpm", "official", 3, 2)
    assert experiment.network == experiment.network_name == "compact" and experiment.track is None


def test_what_a_network_or_scorer_has_of_its_own(root):
    network = TinyNetwork()
    for given, fields in (
        (network, {"weights": "x", "weights_key": "ema", "device": "cpu", "checkpoints": {}}),
        (Scorer(network), {"table": "S4", "preset": "paper", "walk": {"steps": 2}, "walk_padding": False}),
    ):
        for name, value in fields.items():
            config = EvaluationConfig(network=given, datasets="anomaly_track", root=root, **{name: value})
            with pytest.raises(ConfigError, match=f"^{name}: the .* of network has its own; leave it out"):
                make_plan(config)


def test_folders_are_in_no_table_of_benchmarks(photos):
    with pytest.raises(ConfigError, match="datasets: nothing is published for folders; expected some of fishyscapes"):
        make_plan(EvaluationConfig(table="S2", datasets=photos))
    with pytest.raises(ConfigError, match="preset: nothing is published for folders; give the walk's settings"):
        make_plan(EvaluationConfig(method="rba", preset="paper", datasets=photos))


def test_a_device_that_cannot_be_used(root):
    config = EvaluationConfig(datasets="anomaly_track", root=root, device="cuda:99")
    with pytest.raises(ConfigError, match=r"^device: 'cuda:99' cannot be used: "):
        run(config)


def test_a_config_is_a_value(root):
    config = EvaluationConfig(datasets="anomaly_track", root=str(root), cache="maps", scores=["energy"])
    assert replace(config) == config == pickle.loads(pickle.dumps(config))
    with pytest.raises(FrozenInstanceError):
        config.limit = 2
    threads = torch.get_num_threads()
    before = pickle.dumps(config)
    run(replace(config, cache=None, threads=threads + 1, walk={"steps": 1}, limit=1))
    assert torch.get_num_threads() == threads and pickle.dumps(config) == before


def test_callbacks(root, tmp_path):
    (root / "dataset_AnomalyTrack/images/validation0002.jpg").write_bytes(b"no photo")
    seen, titles, results = [], [], []

    def progress(frames, title):
        titles.append((title, len(frames)))
        return frames

    config = EvaluationConfig(datasets="anomaly_track", root=root, walk={"steps": 1}, cache=tmp_path / "new" / "maps")
    result = run_plan(
        make_plan(config),
        command="again",
        progress=progress,
        on_image=lambda photo, failure: seen.append((photo.stem, failure is None)),
        on_result=results.append,
    )
    assert titles == [("Anomaly track (RoadAnomaly21)", 3)]
    assert seen == [("validation0001", True), ("validation0002", False), ("validation0003", True)]
    assert results[0].rows == result.rows and result.command == "again" and len(result.failures) == 1
    assert len(list((tmp_path / "new" / "maps").iterdir())) == 2 * 3  # photos and walks: none, published, anchored


def test_the_table_of_the_example(root):
    """As in the docstring: Table S.1 for the compact network."""
    result = run(EvaluationConfig(table="S1", network="compact", root=root))
    assert "| Mask2Anomaly, Anomaly track (RoadAnomaly21) | with | energy |" in result.markdown()
    assert {row.dataset.split(",")[0] for row in result.rows} == {"PEBAL", "Balanced Energy", "Mask2Anomaly", "RbA"}
    network = networks.load("compact")
    again = run(EvaluationConfig(table="S1", network=network, root=root))
    assert [row.result for row in again.rows] == [row.result for row in result.rows]


def test_evaluation_does_not_know_the_command_line(run_python):
    run_python(
        "import sys\nfrom rwpm_fast.evaluate import make_plan, run\nimport rwpm_fast.evaluate.report\n"
        "assert not [name for name in sys.modules if name.startswith('rwpm_fast.cli')]\n"
    )


def test_key_of_the_weights(root, tmp_path):
    state = networks.load("compact").state_dict()
    torch.save({"model": state, "ema": {name: tensor / 2 for name, tensor in state.items()}}, tmp_path / "w.pth")
    given = {"datasets": "anomaly_track", "root": root, "limit": 1, "scores": ["energy"], "walk": {"steps": 1}}
    with pytest.raises(ValueError, match="2 sets of tensors that may be meant: model, ema; choose one by weights_key"):
        run(EvaluationConfig(weights=tmp_path / "w.pth", **given))
    aps = {
        key: run(EvaluationConfig(weights=tmp_path / "w.pth", weights_key=key, **given)).rows[0].result.ap
        for key in ("model", "ema")
    }
    assert aps["model"] == run(EvaluationConfig(**given)).rows[0].result.ap != aps["ema"]
