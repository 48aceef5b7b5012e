"""Numbers of a stream: latencies, counts, and how they are shown."""

import io

import numpy as np
import pytest

from rwpm_fast.stream import SkippedFrame, StreamResult, Summary
from rwpm_fast.stream.latency import Latencies
from rwpm_fast.stream.table import LiveTable, summary_text


def result(index, latency=0.05, degradations=(), marks=()):
    pixel = np.zeros((1, 1), np.uint8)
    stages = {"network": 0.01, "walk": 0.03}
    return StreamResult(index, None, pixel, pixel, pixel, latency, stages, degradations, marks)


@pytest.mark.parametrize("percent", [1, 50, 95, 99, 100])
def test_percentiles_are_right_within_a_hundredth(percent):
    seconds = np.random.default_rng(0).lognormal(-3, 1, 5001)
    latencies = Latencies()
    for index, value in enumerate(seconds):
        latencies.add(index, value)
    exact = np.percentile(seconds, percent, method="inverted_cdf")
    assert exact <= latencies.percentile(percent) * (1 + 1e-9) and latencies.percentile(percent) <= exact * 1.01
    assert latencies.largest == seconds.max()


def test_the_course_of_latencies_keeps_the_largest_in_bounded_memory():
    latencies = Latencies()
    for index in range(100_000):
        latencies.add(index, 1.0 if index == 70_000 else 0.01)
    assert 1000 < len(latencies.points) < 2048 and len(latencies._bins) == 2
    peak = max(latencies.points, key=lambda point: point[1])
    assert peak[1] == 1.0 and abs(peak[0] - 70_000) <= 128
    indices = [index for index, _ in latencies.points]
    assert indices == sorted(indices) and indices[-1] > 99_000


def test_no_latencies():
    assert np.isnan(Latencies().percentile(50))


def filled():
    summary = Summary(deadline=0.1, seconds=2.0)
    outcomes = [result(index) for index in range(6)]
    outcomes += [result(6, 0.2, ("no walk",)), result(7, 0.04, ("tolerance 0.001", "steps 5"), ("after damage",))]
    outcomes += [SkippedFrame(8, None, "dropped", "it could not have kept the deadline")]
    outcomes += [SkippedFrame(9, None, "broken", "damaged")] * 2
    for outcome in outcomes:
        summary.add(outcome)
    summary.frames = len(outcomes)
    return summary


def test_a_summary_counts_every_frame_once():
    summary = filled()
    numbers = summary.as_dict()
    assert (numbers["frames"], numbers["processed"], numbers["dropped"], numbers["broken"]) == (11, 8, 1, 2)
    assert numbers["frames"] == numbers["processed"] + numbers["dropped"] + numbers["broken"]
    assert numbers["degraded"] == 2 and numbers["late"] == 1 and numbers["marked"] == {"after damage": 1}
    assert numbers["degradations"] == {"no walk": 1, "tolerance 0.001": 1, "steps 5": 1}
    assert numbers["frames_per_second"] == 4.0 and numbers["walk_share"] == pytest.approx(0.75)


def test_reasons_without_end_are_counted_together():
    summary = Summary()
    for index in range(1000):
        summary.add(SkippedFrame(index, None, "broken", f"byte {index}"))
    assert summary.broken == 1000 and len(summary.breaks) == 21 and summary.breaks["other reasons"] == 980


def test_the_text_of_a_summary():
    text = summary_text(filled())
    assert text.splitlines()[:4] == [
        "11 frames: 8 processed, 1 dropped, 2 broken",
        "  dropped: 1, it could not have kept the deadline",
        "  broken: 2, damaged",
        "  processed, though marked: 1, after damage",
    ]
    assert "4.0 frames/s; latency p50 5" in text and "walk 75%" in text
    assert "deadline 100 ms: 1 late, 2 degraded\n  degraded: 1, no walk" in text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def rows(monkeypatch, stream, ticks):
    clock = iter(ticks)
    monkeypatch.setattr("rwpm_fast.stream.table.time.perf_counter", lambda: next(clock))
    table, summary = LiveTable(stream), filled()
    for _ in ticks:
        table.update(summary)
        summary.processed += 10
    table.note("a word")
    return stream.getvalue()


def test_a_table_replaces_its_line_on_a_terminal_only(monkeypatch):
    text = rows(monkeypatch, Terminal(), [0.0, 0.1, 0.5, 1.0])
    assert text.count("\r") == 2 and text.endswith("\x1b[K\na word\n")
    head, values, *_ = text.split("\n")
    assert " ".join(head.split()) == "frame FPS p50 ms p95 ms p99 ms dropped broken degraded walk"
    last = values.split("\r")[-1].removesuffix("\x1b[K").split()
    assert last[:2] == ["11", "20.0"] and last[5:] == ["1", "2", "2", "75%"]
    plain = rows(monkeypatch, io.StringIO(), [0.0, 0.5, 5.0, 10.0])
    assert "\r" not in plain and "\x1b" not in plain and len(plain.splitlines()) == 4
