"""Sequences are measured as the metrics alone would, whatever the order of scorers, sequences and frames."""

import math

import numpy as np
import pytest
from PIL import Image

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk, data
from rwpm_fast.evaluate import drive_sequence, measure_temporal, photo_sequence
from rwpm_fast.evaluate.runner import without_and_with
from rwpm_fast.evaluate.temporal import steadier_sequences, temporal_record, temporal_table
from rwpm_fast.metrics import PixelMetrics, StreamingAccuracy, TemporalConsistency, one_worker
from rwpm_fast.scenes import render_drive

SIZE = (48, 96)


@pytest.fixture(scope="module")
def scorers():
    return without_and_with(Scorer(TinyNetwork(), walk=Walk(steps=2)))


@pytest.fixture(scope="module")
def rows(scorers):
    return measure_temporal(scorers, [drive_sequence(seed, 4, SIZE) for seed in (0, 1)], ["energy"], cost=0.1)


def test_rows_are_what_the_metrics_say(scorers, rows):
    assert [(row.scorer, row.score) for row in rows] == [("without", "energy"), ("with", "energy")]
    for row in rows:
        scorer = scorers[row.scorer]
        whole, instant, streaming = TemporalConsistency(), PixelMetrics(), StreamingAccuracy()
        for seed, alone in zip((0, 1), row.each, strict=True):
            part = TemporalConsistency()
            whole.start()
            streaming.start()
            latencies = one_worker([index / 12 for index in range(4)], [0.1] * 4)
            for frame, latency in zip(render_drive(seed, 4, SIZE), latencies, strict=True):
                scores = scorer.analyze(frame.photo).walked.score("energy").numpy()
                for metric in (whole, part):
                    metric.update(scores, frame.flow, frame.occluded)
                instant.update(scores, frame.labels)
                streaming.update(frame.seconds, None if latency is None else scores, latency, frame.labels)
            assert part.compute() == alone
        assert row.consistency.change == pytest.approx(whole.compute().change, rel=1e-9)
        assert row.consistency.iou == whole.compute().iou and row.consistency.pairs == 6
        assert row.instant == instant.compute() and row.streaming == streaming.compute()
        assert row.cost == 0.1
    assert rows[0].consistency != rows[1].consistency


def test_the_network_runs_once_a_frame(scorers):
    network = scorers["with"].network
    before = network.passes
    measure_temporal(scorers, [drive_sequence(0, 3, SIZE)], ["energy", "max_logit"], cost=0.0)
    assert network.passes - before == 3


def test_the_cost_is_timed_if_it_is_not_given(scorers):
    first, second = measure_temporal(scorers, [drive_sequence(0, 2, SIZE)], ["energy"])
    assert 0 < first.cost < 60 and 0 < second.cost < 60 and first.cost != second.cost


def test_a_cost_longer_than_a_frame_drops_frames(scorers):
    (row, _) = measure_temporal(scorers, [drive_sequence(0, 6, SIZE)], ["energy"], cost=0.3)
    assert row.streaming.dropped == sum(latency is None for latency in one_worker(np.arange(6) / 12, [0.3] * 6)) > 0
    assert row.streaming.frames == 6 and row.streaming.age >= 0.3


def test_photos_of_a_data_set_move_by_optical_flow(scorers, tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    frames = list(render_drive(1, 3, (64, 128)))
    for frame in frames:
        for folder, pixels in (("images", frame.photo), ("labels", frame.labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            if folder == "images" or frame.index != 1:
                Image.fromarray(pixels).save(tmp_path / folder / f"{frame.index}.png")
    dataset = data.folders(tmp_path / "images", tmp_path / "labels", complete=False)
    unlabeled = data.Frame("1", tmp_path / "images/1.png", None, dataset.frames[0].values)
    sequence = photo_sequence("a", [dataset.frames[0], unlabeled, dataset.frames[1]], rate=10)
    read = list(sequence.frames())
    assert sequence.seconds == (0.0, 0.1, 0.2)
    assert [frame.labels is None for frame in read] == [False, True, False]
    assert [frame.flow is None for frame in read] == [True, False, False]
    assert all((frame.photo == wanted.photo).all() for frame, wanted in zip(read, frames, strict=True))
    (row, _) = measure_temporal(scorers, [sequence], ["energy"], cost=0.0)
    assert row.consistency.pairs == 2 and row.instant.images == 2 and row.streaming.frames == 3
    assert row.instant == row.streaming.pixels  # nothing is late


def test_text_and_record_of_the_rows(rows):
    lines = temporal_table(rows).splitlines()
    assert len(lines) == 4 and f"| {rows[0].consistency.change:.3f} |" in lines[2] and "| energy | with |" in lines[3]
    record = temporal_record(rows)
    assert record[1]["consistency"]["pairs"] == 6 and len(record[1]["each"]) == 2
    steadier, known = steadier_sequences(*rows)
    assert steadier == sum(b.change < a.change for a, b in zip(rows[0].each, rows[1].each, strict=True)) and known == 2


def test_sequences_without_a_number_are_not_counted(scorers):
    without, walked = measure_temporal(scorers, [drive_sequence(0, 1, SIZE)], ["energy"], cost=0.0)
    assert math.isnan(without.consistency.change) and without.consistency.pairs == 0
    assert steadier_sequences(without, walked) == (0, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scorers": {}}, "scorers: expected one or more that share a network"),
        ({"sequences": []}, "sequences: expected one or more"),
        ({"scores": ["best"]}, "best"),
        ({"cost": -1.0}, "cost: expected 0 or more seconds, got -1.0"),
        ({"share": 0.0}, "share: expected more than 0"),
        ({"fpr_rule": "best"}, "fpr_rule"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments(scorers, settings, message):
    given = {"scorers": scorers, "sequences": [drive_sequence(0, 1, SIZE)], "scores": ["energy"], "cost": 0.0}
    before = scorers["with"].network.passes
    with pytest.raises(ValueError, match=message):
        measure_temporal(**{**given, **settings})
    assert scorers["with"].network.passes == before


def test_a_drive_that_cannot_be_is_refused_at_once():
    with pytest.raises(ValueError, match="speed: expected"):
        drive_sequence(0, 2, SIZE, speed=-1.0)
