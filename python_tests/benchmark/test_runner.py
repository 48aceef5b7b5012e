"""Who gets a speed, who is refused one, who is left out, and what a record says of it."""

import json
import math
import time

import pytest
import torch

from rwpm_fast.benchmark import Case, Contender, Limits, Unavailable, compare, isas, markdown, ours, record, succeeded
from rwpm_fast.benchmark import machine as machine_of
from rwpm_fast.benchmark.contender import baseline, matrix, once, torch_walks
from rwpm_fast.benchmark.memory import peak_memory

CASE = Case(10, 20, channels=16, value_channels=3, steps=4)
QUICK = Limits(rounds=2, measure_memory=False)
DENSE = torch_walks()[0]


@pytest.fixture(autouse=True)
def quick_machine(monkeypatch):
    """A machine that reaches what it is told, so that no test waits for its measurement."""
    monkeypatch.setattr(machine_of, "peak_flops", lambda: 1e9)
    monkeypatch.setattr(machine_of, "copy_bytes", lambda: 1e9)


def contender(run, **facts):
    """A contender that gives what ``run`` makes of the problem."""
    facts = {"work": lambda case: 1, "memory": lambda case: 1, **facts}
    return Contender("test", "under test", lambda problem: lambda: run(problem), **facts)


def row_of(contender, limits=QUICK, case=CASE):
    compared = compare(case, [contender], limits)
    assert len(compared["rows"]) == 1
    return compared["rows"][0]


def test_a_row_that_matches():
    compared = compare(CASE, [ours(isas()[0]), DENSE, ours(isas()[0], 1e-3)], QUICK)
    for row in compared["rows"]:
        assert row["matched"] and row["error"] <= row["bound"] and row["against"] == "float64 dense"
        assert len(row["runs"]) == 2 and min(row["runs"]) <= row["seconds"] <= max(row["runs"])
        assert row["frames_per_second"] == 1 / row["seconds"]
    exact, dense, tolerant = compared["rows"]
    assert dense["speedup"] == 1.0
    assert exact["speedup"] == dense["seconds"] / exact["seconds"]
    assert exact["share_of_peak"] == pytest.approx(2 * 200**2 * (16 + 3) * 4 / exact["seconds"] / 1e9)
    assert dense["share_of_peak"] == pytest.approx(2 * 200**2 * (16 + 3 * 4) / dense["seconds"] / 1e9)
    assert "share_of_peak" not in tolerant and tolerant["bound"] == pytest.approx(1e-5 + 2 * 4 * 1e-3)


def zeros(problem):
    return torch.zeros_like(problem.values)


def broken(problem):
    return torch.full_like(problem.values, math.nan)


def transposed(problem):
    return problem.values.T


def nearly(problem):
    return 1.001 * DENSE.prepare(problem)()


@pytest.mark.parametrize("wrong", [zeros, broken, transposed, nearly])
def test_a_wrong_result_gets_no_speed(wrong):
    row = row_of(contender(wrong))
    assert row["matched"] is False and not row["error"] <= row["bound"]
    assert not {"seconds", "frames_per_second", "speedup", "share_of_peak", "peak_bytes"} & row.keys()
    made = record([compare(CASE, [contender(wrong)], QUICK)], "test", QUICK)
    assert not succeeded(made)
    assert "| under test | refused: its error is above" in markdown(made)


def test_one_wrong_result_among_right_ones_is_enough():
    results = []

    def sometimes(problem):
        results.append(None)
        return zeros(problem) if len(results) == 4 else DENSE.prepare(problem)()

    assert row_of(contender(sometimes))["matched"] is False
    assert len(results) == 4  # two to warm up, two timed


def test_a_tolerance_is_allowed_its_error():
    def off(problem):
        return DENSE.prepare(problem)() * (1 + 3e-5)

    assert row_of(contender(off))["matched"] is False
    assert row_of(contender(off, tolerance=1e-5))["matched"] is True


def test_too_large_is_left_out_with_the_reason():
    row = row_of(contender(zeros, memory=lambda case: 3 * 2**30), Limits(memory=2**30))
    assert row["skipped"] == "would take about 3.0 GiB, the limit is 1.0 GiB" and "seconds" not in row


def test_too_slow_is_left_out_with_the_reason():
    def slow(problem):
        time.sleep(0.01)
        return zeros(problem)

    row = row_of(contender(slow, work=once), Limits(seconds=0.02), Case(100, 100, channels=4, steps=2))
    assert "would take about" in row["skipped"] and "1024 pixels and 1 step" in row["skipped"]


def test_slower_than_estimated_is_not_repeated():
    def slow(problem):
        if problem.case.steps > 1:
            time.sleep(0.05)
        return DENSE.prepare(problem)()

    row = row_of(contender(slow), Limits(seconds=0.04, rounds=3, measure_memory=False))
    assert row["matched"] and len(row["runs"]) == 1


def test_unavailable_is_left_out_with_the_reason():
    def missing(problem):
        raise Unavailable("it is not installed: pip install it")

    compared = compare(CASE, [Contender("test", "under test", missing, once, matrix), DENSE], QUICK)
    assert compared["rows"][0]["skipped"] == "it is not installed: pip install it"
    assert compared["rows"][1]["matched"]
    assert succeeded(record([compared], "test", QUICK))


@pytest.mark.parametrize("steps", [1, 4], ids=["when warming up", "when timed"])
def test_a_failure_is_told_and_the_others_run(steps):
    def fails(problem):
        if problem.case.steps == steps:
            raise RuntimeError("no kernel\nfor this")
        return zeros(problem)

    compared = compare(CASE, [contender(fails), DENSE], QUICK)
    assert compared["rows"][0]["failed"] == "RuntimeError: no kernel" and "seconds" not in compared["rows"][0]
    assert compared["rows"][1]["matched"]
    made = record([compared], "test", QUICK)
    assert not succeeded(made) and "failed: RuntimeError: no kernel" in markdown(made)


def test_contenders_take_turns():
    order = []

    def named(name):
        def run(problem):
            if problem.case.steps > 1:
                order.append(name)
            return DENSE.prepare(problem)()

        return Contender(name, name, lambda problem: lambda: run(problem), lambda case: 1, lambda case: 1)

    compare(CASE, [named("a"), named("b"), named("c")], Limits(rounds=3, measure_memory=False))
    assert order == ["a", "b", "c"] * 3


def test_steps_of_sparse_walks_are_timed_by_themselves():
    def walk(problem):
        time.sleep(0.01 * problem.case.steps)
        return DENSE.prepare(problem)()

    row = row_of(contender(walk, exact=False, pairs=lambda problem: 1000))
    assert row["pairs"] == 1000
    # Four transitions against one: no less than the sleep of three.
    assert row["step_seconds"] > 0.005
    assert row["share_of_copy"] == pytest.approx(4 * 1000 * 3 / row["step_seconds"] / 1e9)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"seconds": 0.0}, "seconds: expected a positive number, got 0.0"),
        ({"memory": -1.0}, "memory: expected a positive number, got -1.0"),
        ({"rounds": 0}, "rounds: expected 1 or more, got 0"),
    ],
    ids=str,
)
def test_limits(settings, text):
    with pytest.raises(ValueError, match=text):
        Limits(**settings)


def test_record_survives_json():
    made = record([compare(CASE, [DENSE, contender(zeros)], QUICK)], "python -m bench --pixels 200", QUICK)
    again = json.loads(json.dumps(made))
    assert again == made and markdown(again) == markdown(made)
    assert again["command"] == "python -m bench --pixels 200" and again["machine"]["torch"]
    assert again["commit"] is None or len(again["commit"].removesuffix("-dirty")) == 40


def test_peak_memory_in_a_process_of_its_own():
    """Dense torch holds the matrix, ours does not."""
    case = Case(40, 60, channels=16, value_channels=2, steps=1)
    dense = baseline("dense", "dense", DENSE.prepare.keywords["walk"], work=once, memory=matrix)
    dense, exact = peak_memory(case, dense), peak_memory(case, ours(isas()[0]))
    if dense is None:
        pytest.skip("this system does not tell a process's peak memory")
    square = 4 * case.pixels**2  # 23 MB
    assert square <= dense <= 4 * square
    assert exact < square / 4
