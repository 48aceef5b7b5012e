"""Streaming accuracy: which map answers for a frame, against a simulation, and what is counted."""

import itertools
import math

import numpy as np
import pytest
import torch

from rwpm_fast.metrics import PixelMetrics, StreamingAccuracy, one_worker


def row(position, length=20):
    """Labels with an anomaly at a place, and a perfect map of it with scores that are all different."""
    labels = np.zeros((1, length), np.uint8)
    labels[0, position] = 1
    return labels, labels - np.linspace(0, 0.5, length)[None]


def stream(latency, frames=8, rate=10.0):
    metric = StreamingAccuracy()
    for index in range(frames):
        labels, scores = row(index)
        metric.update(index / rate, scores, latency, labels)
    return metric.compute()


def test_without_latency_it_is_the_plain_metric():
    plain = PixelMetrics()
    for index in range(8):
        plain.update(*row(index)[::-1])
    result = stream(0.0)
    assert result.pixels == plain.compute() and result.pixels.ap == 1
    assert (result.frames, result.answered, result.unanswered, result.dropped, result.age) == (8, 8, 0, 0, 0)


@pytest.mark.parametrize(("latency", "late"), [(0.1, 1), (0.3, 3), (0.25, 3), (0.05, 1)])
def test_a_late_map_is_held_against_the_labels_of_its_arrival(latency, late):
    result = stream(latency)
    plain = PixelMetrics()
    for index in range(late, 8):
        plain.update(row(index - late)[1], row(index)[0])
    assert result.pixels == plain.compute() and result.pixels.ap < 0.5
    assert (result.answered, result.unanswered) == (8 - late, late) and result.age == pytest.approx(late / 10)


def test_the_latest_frame_that_is_done_answers():
    """Frame 0 takes long, frame 1 is done before it: frame 0 never answers after that."""
    metric = StreamingAccuracy()
    for index, latency in enumerate((0.25, 0.05, None, None, None)):
        labels, scores = row(index)
        metric.update(index / 10, None if latency is None else scores, latency, labels if index == 4 else None)
    plain = PixelMetrics()
    plain.update(row(1)[1], row(4)[0])
    result = metric.compute()
    assert result.pixels == plain.compute()
    assert (result.frames, result.answered, result.dropped) == (5, 1, 3) and result.age == pytest.approx(0.3)


def test_random_streams_are_those_of_a_plain_simulation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        times = np.cumsum(rng.uniform(0.01, 0.2, 30))
        latencies = [None if rng.random() < 0.3 else float(rng.uniform(0, 0.5)) for _ in times]
        metric, plain, ages = StreamingAccuracy(), PixelMetrics(), []
        for index, (time, latency) in enumerate(zip(times, latencies, strict=True)):
            labels, scores = row(index % 20)
            metric.update(time, None if latency is None else scores, latency, labels)
            done = [i for i in range(index + 1) if latencies[i] is not None and times[i] + latencies[i] <= time]
            if done:
                plain.update(row(done[-1] % 20)[1], labels)
                ages.append(time - times[done[-1]])
        result = metric.compute()
        assert result.pixels == plain.compute() and result.answered == len(ages) > 0
        assert result.age == pytest.approx(np.mean(ages)) and result.dropped == latencies.count(None)


def test_maps_that_can_answer_nothing_more_are_let_go():
    metric = StreamingAccuracy()
    for index in range(100):
        metric.update(index / 10, np.zeros((1, 2)), 0.25)
        assert len(metric._maps) <= 4


def test_a_sequence_does_not_answer_for_the_next():
    metric = StreamingAccuracy()
    labels, scores = row(3)
    metric.update(5.0, scores, 0.0, labels)
    metric.start()
    metric.update(0.0, scores, 0.1, labels)  # time begins anew
    result = metric.compute()
    assert (result.answered, result.unanswered, result.frames) == (1, 1, 2)


def test_a_buffer_that_is_used_again_does_not_change_the_answer():
    labels, scores = row(3)
    buffer, metric = torch.tensor(scores), StreamingAccuracy()
    metric.update(0.0, buffer, 0.1)
    buffer.zero_()
    metric.update(0.1, buffer, 0.1, labels)
    assert metric.compute().pixels.ap == 1


@pytest.mark.filterwarnings("ignore:positive")
def test_nothing_was_answered():
    metric = StreamingAccuracy()
    metric.update(0.0, None, None, row(0)[0])
    result = metric.compute()
    assert result.unanswered == result.dropped == 1 and math.isnan(result.age) and math.isnan(result.pixels.ap)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1.0, np.zeros((1, 2)), 0.0), "seconds: expected more than 1.0, the frame before, got 1.0"),
        ((math.nan, np.zeros((1, 2)), 0.0), "seconds: expected more"),
        ((2.0, None, 0.0), "latency: expected None for a dropped frame"),
        ((2.0, np.zeros((1, 2)), None), "latency: expected None for a dropped frame"),
        ((2.0, np.zeros((1, 2)), -0.1), "latency: expected 0 or more seconds, got -0.1"),
        ((2.0, np.zeros((1, 2)), 0.0, np.zeros((2, 1), int)), "labels: expected shape"),
    ],
)
def test_bad_frames(settings, message):
    metric = StreamingAccuracy()
    metric.update(1.0, np.zeros((1, 2)))
    with pytest.raises(ValueError, match=message):
        metric.update(*settings)


def test_an_unknown_rule():
    with pytest.raises(ValueError, match="fpr_rule"):
        StreamingAccuracy("best")


class TestOneWorker:
    def test_a_fast_one_drops_nothing(self):
        assert one_worker([0.0, 0.1, 0.2], [0.05, 0.1, 0.02]) == pytest.approx([0.05, 0.1, 0.02])

    def test_a_slow_one_takes_the_latest_that_waits(self):
        latencies = one_worker([0.0, 0.1, 0.2, 0.3, 0.4], [0.25] * 5)
        assert [latency is None for latency in latencies] == [False, True, False, True, False]
        assert [latency for latency in latencies if latency is not None] == pytest.approx([0.25, 0.3, 0.35])

    def test_a_frame_that_waits_only_a_little_is_scored_between_two(self):
        assert one_worker([0.0, 0.1, 0.2], [0.15, 0.01, 0.01]) == pytest.approx([0.15, 0.06, 0.01])

    def test_a_worker_that_is_free_as_a_frame_comes_takes_that_frame(self):
        assert one_worker([0.0, 0.1, 0.2], [0.2, 0.1, 0.1]) == [0.2, None, 0.1]

    def test_it_does_one_thing_at_a_time(self):
        rng = np.random.default_rng(0)
        times, costs = np.cumsum(rng.uniform(0.05, 0.15, 200)), rng.uniform(0.01, 0.4, 200)
        latencies = one_worker(times, costs)
        spans = [(t + d - c, t + d) for t, c, d in zip(times, costs, latencies, strict=True) if d is not None]
        assert 50 < len(spans) < 200
        assert all(start >= time - 1e-9 for (start, _), time in zip(spans, _scored(times, latencies), strict=True))
        assert all(end <= start + 1e-5 for (_, end), (start, _) in itertools.pairwise(spans))

    def test_lists_of_two_lengths(self):
        with pytest.raises(ValueError, match="zip"):
            one_worker([0.0], [])


def _scored(times, latencies):
    return [time for time, latency in zip(times, latencies, strict=True) if latency is not None]
