"""The result of an evaluation as a table, CSV and JSON."""

import csv
import io
import json

import pytest

from rwpm_fast.evaluate import SINGLE_PROCESS, EvaluationResult, ResultRow, Sweep
from rwpm_fast.metrics import PixelResult


def row(label, settings, ap, published=None, dataset="Road"):
    result = PixelResult(0.9, ap, float("nan"), 10, 90, 2, "fishyscapes")
    return ResultRow(
        dataset, label, "energy", settings, result, None, 0.5, 0.25 if settings else 0.0, 1.5, published or {}
    )


@pytest.fixture
def evaluated():
    rows = [
        row("without", None, 0.25, {"AP": 24.5, "FPS": 11.0}),
        row("with, calibrated", {"alpha": 0.5, "calibrated": True}, 0.5),
    ]
    sweeps = {"Road": Sweep({}, {}, {}, [], SINGLE_PROCESS, None)}
    return EvaluationResult(
        "A table", "walk", ("AP", "FPR95", "FPS", "walk alone, FPS"), "rwpm-fast evaluate", {"threads": 1}, rows,
        sweeps, "the paper", ("A note.",),
    )  # fmt: skip


def test_table_shows_ours_then_the_published(evaluated):
    assert evaluated.markdown() == (
        "A table\n\n"
        "| walk | score | AP | FPR95 | FPS | walk alone, FPS | published AP | published FPS |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| without | energy | 25.00 | - | 1.50 | - | 24.50 | 11.00 |\n"
        "| with, calibrated | energy | 50.00 | - | 1.50 | 4.00 | - | - |\n\n"
        "Published: the paper, for orientation.\n\nA note.\n"
    )


def test_several_data_sets_are_named(evaluated):
    evaluated.sweeps["Track"] = evaluated.sweeps["Road"]
    assert evaluated.header()[0] == "data set" and [row[0] for row in evaluated.cells()] == ["Road", "Road"]


def test_csv_has_all_figures_unrounded(evaluated):
    without, walked = csv.DictReader(io.StringIO(evaluated.csv()))
    assert without["AP"] == "25.0" and without["published AP"] == "24.5" and without["alpha"] == ""
    assert walked["label"] == "with, calibrated" and walked["alpha"] == "0.5" and walked["calibrated"] == "True"
    assert walked["photos"] == "2" and walked["AuROC"] == "90.0" and walked["FPR95"] == "nan"


def test_json_has_fractions(evaluated):
    record = json.loads(json.dumps(evaluated.as_dict()))
    assert record["title"] == "A table" and record["notes"] == ["A note."] and record["failures"] == {}
    first = record["lines"][0]
    assert first["ap"] == 0.25 and first["walk"] is None and first["published"] == {"AP": 24.5, "FPS": 11.0}
    assert record["lines"][1]["walk_seconds_median"] == 0.25
