"""Order, accounting and ends of a stream, with stages and sources of known behavior."""

import time
from threading import Event, Thread

import numpy as np
import pytest

from python_tests.stream.fakes import FakeSource, FakeStages
from rwpm_fast.stream import SkippedFrame, Stream, StreamResult, StreamSettings
from rwpm_fast.stream.deadline import Costs
from rwpm_fast.stream.job import Pace
from rwpm_fast.stream.result import LATE, OVERTAKEN, STOPPED


def run(source, stages, **settings):
    """Run a stream to its end; return it and all outcomes."""
    outcomes = []
    stream = Stream(source, stages, StreamSettings(**settings), watch=outcomes.append)
    assert len(list(stream)) == stream.summary.processed
    return stream, outcomes


def check_sums(summary, source):
    assert summary.frames == source.given
    assert summary.frames == summary.processed + summary.dropped + summary.broken


def test_all_frames_come_out_in_order_by_threads_of_their_own():
    source, stages = FakeSource(50, broken={3, 4, 20}, rate=1e6), FakeStages()
    stream, outcomes = run(source, stages, all_frames=True)
    assert [outcome.index for outcome in outcomes] == list(range(50))
    assert [o.index for o in outcomes if isinstance(o, SkippedFrame)] == [3, 4, 20]
    assert all((o.score == o.index).all() for o in outcomes if isinstance(o, StreamResult))
    assert (stream.summary.processed, stream.summary.dropped, stream.summary.broken) == (47, 0, 3)
    assert stages.threads == {stage: {f"rwpm-{stage}"} for stage in ("network", "walk", "score")}
    assert source.closed.is_set()
    check_sums(stream.summary, source)


def test_frames_without_a_time_wait_for_their_turn():
    stream, _ = run(source := FakeSource(200), FakeStages())
    assert stream.summary.processed == 200
    check_sums(stream.summary, source)


@pytest.mark.parametrize("queue", [1, 3])
def test_the_oldest_frame_is_dropped_where_they_come_too_fast(queue):
    gate = Event()
    source = FakeSource(40, rate=1e6, broken={7})
    stages = FakeStages(gates={"network": gate})
    outcomes = []
    stream = Stream(source, stages, StreamSettings(queue=queue), watch=outcomes.append)

    def decoded():
        return source.given == 40 and not stream._pipeline._threads[0].is_alive()

    results = iter(stream)
    Thread(target=lambda: (_until(decoded), gate.set())).start()
    list(results)
    assert [outcome.index for outcome in outcomes] == list(range(40))
    scored = [outcome.index for outcome in outcomes if isinstance(outcome, StreamResult)]
    assert scored[-queue:] == list(range(40 - queue, 40))  # the newest ones are kept
    assert len(scored) in (queue, queue + 1)  # and the one that the network held, if it was there by then
    assert stream.summary.drops == {OVERTAKEN: 40 - 1 - len(scored)}
    check_sums(stream.summary, source)


def test_frames_of_a_file_are_due_by_their_time_stamps(monkeypatch):
    clock = 100.0
    monkeypatch.setattr("rwpm_fast.stream.job.time.perf_counter", lambda: clock)
    pace = Pace(by_stamps=True)
    assert [pace.due(seconds) for seconds in (7.0, 7.5, None, 8.0)] == [100.0, 100.5, 100.0, 101.0]
    assert pace.due(6.0) == 100.0  # time stamps that go back
    assert [pace.due(seconds) for seconds in (5000.0, 5000.5)] == [100.0, 100.5]  # a gap is skipped
    clock = 200.0
    assert pace.due(5000.6) == 200.0  # it was due before it was decoded
    assert Pace(by_stamps=False).due(9999.0) == 200.0


def test_no_frame_grows_old_behind_a_slow_walk():
    gate = Event()
    source = FakeSource(40, rate=1e6)
    stream = Stream(source, FakeStages(gates={"walk": gate}), StreamSettings())
    results = iter(stream)
    decoder = stream._pipeline._threads[0]
    Thread(target=lambda: (_until(lambda: source.given == 40 and not decoder.is_alive()), gate.set())).start()
    scored = [result.index for result in results]
    # One was in the walk, one waited for it, and the next was the newest of all.
    assert len(scored) <= 3 and scored[-1] == 39
    check_sums(stream.summary, source)


def _until(condition):
    while not condition():
        time.sleep(0.005)


@pytest.mark.parametrize("stage", ["network", "walk", "score"])
def test_an_error_of_a_stage_ends_the_stream_with_its_cause(stage):
    source = FakeSource(100)
    outcomes = []
    stages = FakeStages(errors={(stage, 30): ZeroDivisionError("of the stage")})
    stream = Stream(source, stages, StreamSettings(), watch=outcomes.append)
    with pytest.raises(ZeroDivisionError, match="of the stage"):
        list(stream)
    assert [outcome.index for outcome in outcomes] == list(range(source.given))
    assert isinstance(outcomes[25], StreamResult)
    assert outcomes[30].outcome == "broken" and outcomes[30].reason == "ZeroDivisionError: of the stage"
    assert stream.summary.ended == "ZeroDivisionError: of the stage"
    assert source.closed.is_set()
    check_sums(stream.summary, source)


def test_frames_before_a_source_went_away_are_scored():
    source = FakeSource(100, error=(17, OSError("unplugged")))
    stream = Stream(source, FakeStages(), StreamSettings())
    with pytest.raises(OSError, match="unplugged"):
        list(stream)
    assert stream.summary.processed == 17 and stream.summary.ended == "OSError: unplugged"
    check_sums(stream.summary, source)


def test_a_stopped_stream_accounts_for_every_frame():
    gate = Event()
    source = FakeSource(100)
    stages = FakeStages(gates={"walk": gate})
    outcomes = []
    stream = Stream(source, stages, StreamSettings(queue=4), watch=outcomes.append)
    results = iter(stream)
    gate.set()
    next(results)
    stream.stop("by a test")
    list(results)
    assert [outcome.index for outcome in outcomes] == list(range(source.given))
    assert set(stream.summary.drops) <= {STOPPED} and stream.summary.ended == "by a test"
    check_sums(stream.summary, source)


def test_a_source_that_never_gives_its_next_frame_ends_when_it_is_closed():
    source = FakeSource(100, hang_at=5, live=True)
    stream = Stream(source, FakeStages(), StreamSettings(queue=9))
    results = iter(stream)
    for _ in range(5):
        next(results)
    stream.stop()
    assert not list(results)
    check_sums(stream.summary, source)


def test_a_stream_that_is_left_early_accounts_for_every_frame():
    source = FakeSource(100)
    with Stream(source, FakeStages(), StreamSettings()) as stream:
        for result in stream:
            if result.index == 10:
                break
    check_sums(stream.summary, source)
    assert stream.summary.processed >= 11 and source.closed.is_set()


def test_a_stream_that_is_never_read_closes_its_source():
    source = FakeSource(100)
    with Stream(source, FakeStages(), StreamSettings()) as stream:
        pass
    assert source.closed.is_set() and stream.summary.frames == 0


def test_an_error_of_the_watch_ends_the_stream():
    def watch(outcome):
        if outcome.index == 8:
            raise OSError("full")

    source = FakeSource(100)
    stream = Stream(source, FakeStages(), StreamSettings(), watch)
    with pytest.raises(OSError, match="full"):
        list(stream)
    check_sums(stream.summary, source)
    assert source.closed.is_set()


def test_degradations_are_on_the_results_and_counted():
    # The full walk does not fit into the deadline, the coarser one does; what is really spent is next to nothing.
    costs = Costs(1e-6, [1e9, 1e-6], 1e-6)
    source = FakeSource(30, rate=1e6)
    stream, outcomes = run(source, FakeStages(levels=2, costs=costs), deadline=1e3, queue=100)
    assert {o.degradations for o in outcomes} == {("coarser",)}
    assert stream.summary.degraded == stream.summary.degradations["coarser"] == 30
    check_sums(stream.summary, source)


def test_late_frames_are_dropped_before_work_but_never_all():
    # No frame can make it: each tenth is scored all the same.
    costs = Costs(1e9, [1e9, 1e9], 1e9)
    source = FakeSource(100, rate=1e6)
    stages = FakeStages(levels=2, costs=costs)
    stream, _ = run(source, stages, deadline=1.0, queue=100)
    assert stream.summary.drops == {LATE: 100 - stream.summary.processed}
    assert 9 <= stream.summary.processed < 50  # estimates also fall until frames are tried
    assert set(stages.levels) == {1}
    check_sums(stream.summary, source)


def test_a_deadline_needs_frames_with_a_time():
    source = FakeSource(3)
    with pytest.raises(ValueError, match="deadline: the frames of fake come without any time"):
        list(Stream(source, FakeStages(), StreamSettings(deadline=1.0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"deadline": 0.0}, "deadline: expected seconds above 0"),
        ({"deadline": 1.0, "all_frames": True}, "deadline: expected none with all_frames"),
        ({"queue": 0}, "queue: expected 1 frame or more"),
        ({"loosest_tolerance": 1.0}, "loosest_tolerance"),
        ({"fewest_steps": 0}, "fewest_steps"),
        ({"ego_mask": np.zeros((4, 6))}, r"ego_mask: expected \[H, W\] bool, got \[4, 6\] float64"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        StreamSettings(**settings)


def test_a_mask_is_an_array():
    with pytest.raises(TypeError, match="ego_mask: expected an array or None, got list"):
        StreamSettings(ego_mask=[[True]])
