"""Which contenders get a speed, are refused one, or are left out, and what a record says of it."""

import json
import math
import time
from dataclasses import replace

import pytest
import torch

from rwpm_fast.benchmark import (
    UNITS,
    Case,
    Contender,
    CpuDevice,
    Facts,
    Limits,
    Record,
    Result,
    Unavailable,
    compare,
    fps_entries,
    isas,
    markdown,
    our_walk,
)
from rwpm_fast.benchmark import machine as machine_of
from rwpm_fast.benchmark.costs import bytes_matrix, flops_dense, step_bytes_gathered, step_bytes_least
from rwpm_fast.benchmark.entries import baseline_walks
from rwpm_fast.benchmark.machine import commit
from rwpm_fast.benchmark.memory import peak_memory
from rwpm_fast.benchmark.published import published_row
from rwpm_fast.benchmark.reference import NEAREST, RELEASED
from rwpm_fast.benchmark.runner import take_turns
from rwpm_fast.io.files import write_json
from rwpm_fast.ops.settings import WalkSettings

CASE = Case(10, 20, channels=16, value_channels=3, settings=WalkSettings(steps=4))
UNCUT = Case(8, 13, channels=24, value_channels=5, settings=WalkSettings(steps=3), smooth=True)
CUT = Case(20, 24, 24, 20, WalkSettings(steps=3, parts=2), smooth=True, dtype="float16")
QUICK = Limits(rounds=2, measure_memory=False)
DENSE = baseline_walks()[0]


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
    (row,) = compare(case, [contender], limits).rows
    return row


def record(*compared, command="test", **facts):
    return Record(command=command, machine=CpuDevice().facts(), cases=compared, **QUICK.to_json(), **facts)


# What only a row with a time has.
TIMES = {"seconds", "frames_per_second", "speedup", "share_of_peak", "peak_bytes"}


def of(key, case=CUT):
    return next(c for c in fps_entries(case, [1e-3]) if c.key == key)


def test_a_row_that_matches():
    compared = compare(CASE, [our_walk(isas()[0]), DENSE, our_walk(isas()[0], 1e-3)], QUICK)
    for row in compared.rows:
        assert row.matched and row.error <= row.bound and row.against == "float64 dense"
        assert len(row.runs) == 2 and min(row.runs) <= row.seconds <= max(row.runs)
        assert row.frames_per_second == 1 / row.seconds
    exact, dense, tolerant = compared.rows
    assert dense.speedup == 1.0
    assert exact.speedup == dense.seconds / exact.seconds
    if isas() != ["torch"]:  # rows' sums, every pair's cosine once, and values at every step
        work = 2 * (200**2 * 16 + 200 * 201 / 2 * 16 + 200**2 * 3 * 4)
        assert exact.share_of_peak == pytest.approx(work / exact.seconds / 1e9)
    assert dense.share_of_peak == pytest.approx(2 * 200**2 * (16 + 3 * 4) / dense.seconds / 1e9)
    assert tolerant.share_of_peak is None and tolerant.bound == pytest.approx(1e-5 + 2 * 4 * 1e-3)


def zeros(problem):
    return torch.zeros_like(problem.values)


def broken(problem):
    return torch.full_like(problem.values, math.nan)


def transposed(problem):
    return problem.values.mT


def nearly(problem):
    return 1.001 * DENSE.prepare(problem)()


@pytest.mark.parametrize("wrong", [zeros, broken, transposed, nearly])
def test_a_wrong_result_gets_no_speed(wrong):
    row = row_of(contender(wrong))
    assert row.matched is False and not row.error <= row.bound
    assert not TIMES & row.to_json().keys()
    made = record(compare(CASE, [contender(wrong)], QUICK))
    assert not made.sound
    assert "| under test | refused: its error is above" in markdown(made)


def lossy(run, **facts):
    return contender(run, expected_error=1e-2, exact=False, **facts)


def test_an_error_that_is_expected_is_timed_and_told():
    compared = compare(CASE, [DENSE, lossy(nearly, facts=lambda problem: Facts(note="a note"))], QUICK)
    row = compared.rows[1]
    assert row.matched is False and row.accepted and row.sound
    assert row.bound == 1e-5 < row.error <= row.expected == 1e-2
    assert len(row.runs) == 2 and row.speedup > 0 and row.share_of_peak is None
    made = record(compared)
    assert made.sound and Record.from_json(json.loads(json.dumps(made.to_json()))) == made
    dense, near = markdown(made).splitlines()[-2:]
    assert near.startswith("| under test (a note) | ") and "no match" not in dense
    assert f"| {row.error:.1e} float64 dense; no match, up to 1e-02 is expected |" in near


def test_an_error_above_the_expected_gets_no_speed():
    for wrong in (zeros, broken, transposed):
        row = row_of(lossy(wrong))
        assert not row.accepted and not row.sound and not TIMES & row.to_json().keys()
        made = record(compare(CASE, [lossy(wrong)], QUICK))
        assert "| under test | refused: its error is above the 1e-02 that is expected |" in markdown(made)


def test_within_its_contract_it_matches_whatever_was_expected():
    compared = compare(CASE, [lossy(lambda problem: DENSE.prepare(problem)())], QUICK)
    assert compared.rows[0].matched and "no match" not in markdown(record(compared))


def test_a_failure_after_an_expected_error_is_one():
    results = []

    def fails(problem):
        results.append(None)
        if len(results) == 4:
            raise RuntimeError("no more")
        return nearly(problem)

    row = row_of(lossy(fails))
    assert row.error <= 1e-2 and row.failed and not row.accepted and row.seconds is None


def test_one_wrong_result_among_right_ones_is_enough():
    results = []

    def sometimes(problem):
        results.append(None)
        return zeros(problem) if len(results) == 4 else DENSE.prepare(problem)()

    assert row_of(contender(sometimes)).matched is False
    assert len(results) == 4  # two to warm up, two timed


def test_a_tolerance_is_allowed_its_error():
    def off(problem):
        return DENSE.prepare(problem)() * (1 + 3e-5)

    assert row_of(contender(off)).matched is False
    assert row_of(contender(off, tolerance=1e-5)).matched is True


def test_too_large_is_left_out_with_the_reason():
    row = row_of(contender(zeros, memory=lambda case: 3 * 2**30), Limits(memory=2**30))
    assert row.skipped == "would take about 3.0 GiB, the limit is 1.0 GiB" and row.seconds is None


def test_too_slow_is_left_out_with_the_reason():
    def slow(problem):
        time.sleep(0.01)
        return zeros(problem)

    case = Case(100, 100, channels=4, settings=WalkSettings(steps=2))
    row = row_of(contender(slow, work=flops_dense), Limits(seconds=0.02), case)
    assert "would take about" in row.skipped and "1024 pixels and 1 step" in row.skipped


def test_slower_than_estimated_is_not_repeated():
    def slow(problem):
        if problem.case.steps > 1:
            time.sleep(0.05)
        return DENSE.prepare(problem)()

    row = row_of(contender(slow), Limits(seconds=0.04, rounds=3, measure_memory=False))
    assert row.matched and len(row.runs) == 1


def test_unavailable_is_left_out_with_the_reason():
    def missing(problem):
        raise Unavailable("it is not installed: pip install it")

    compared = compare(CASE, [Contender("test", "under test", missing, flops_dense, bytes_matrix), DENSE], QUICK)
    assert compared.rows[0].skipped == "it is not installed: pip install it"
    assert compared.rows[1].matched
    assert record(compared).sound


@pytest.mark.parametrize("steps", [1, 4], ids=["when warming up", "when timed"])
def test_a_failure_is_told_and_the_others_run(steps):
    def fails(problem):
        if problem.case.steps == steps:
            raise RuntimeError("no kernel\nfor this")
        return zeros(problem)

    compared = compare(CASE, [contender(fails), DENSE], QUICK)
    assert compared.rows[0].failed == "RuntimeError: no kernel" and compared.rows[0].seconds is None
    assert compared.rows[1].matched
    made = record(compared)
    assert not made.sound and "failed: RuntimeError: no kernel" in markdown(made)


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


def test_a_record_says_what_our_walks_were_expected_to_take():
    case = replace(CASE, width=60)
    exact, tolerant, dense = (row_of(c, case=case) for c in (our_walk("cpu"), our_walk("cpu", 1e-3), DENSE))
    assert exact.predicted[0] == exact.predicted[1] > 0
    assert 0 < tolerant.predicted[0] < tolerant.predicted[1]
    assert dense.predicted == ()
    assert Result.from_json(json.loads(json.dumps(tolerant.to_json()))).predicted == tolerant.predicted


def test_steps_of_sparse_walks_are_timed_by_themselves():
    def walk(problem):
        time.sleep(0.01 * problem.case.steps)
        return DENSE.prepare(problem)()

    row = row_of(contender(walk, exact=False, facts=lambda problem: Facts(pairs=1000)))
    assert row.pairs == 1000
    # Four transitions against one: no less than the sleep of three.
    assert row.step_seconds > 0.005
    assert row.share_of_copy == pytest.approx(4 * 1000 * 3 / row.step_seconds / 1e9)


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
    made = record(compare(CASE, [DENSE, contender(zeros)], QUICK), command="python -m bench --pixels 200")
    again = Record.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made and again.to_json() == made.to_json() and markdown(again) == markdown(made)
    assert again.command == "python -m bench --pixels 200" and again.machine["torch"] and len(again.commit) == 40
    assert commit() is None or len(commit().removesuffix("-dirty")) == 40


def test_peak_memory_in_a_process_of_its_own():
    """Dense torch holds the matrix, ours does not."""
    case = Case(40, 60, channels=16, value_channels=2, settings=WalkSettings(steps=1))
    dense, exact = peak_memory(case, DENSE), peak_memory(case, our_walk(isas()[0]))
    if dense is None:
        pytest.skip("this system does not tell a process's peak memory")
    square = 4 * case.pixels**2  # 23 MB
    assert square <= dense <= 4 * square
    assert exact < square / 4


def test_turns():
    order = []
    loads = take_turns(2, iter("ab"), lambda entry, turn: order.append((turn, entry)), before=lambda: len(order))
    assert order == [(turn, entry) for turn in ("round 1 of 2", "round 2 of 2") for entry in "ab"]
    assert loads == [0, 2]


@pytest.fixture
def frames_a_second():
    chosen = [of(k) for k in ("exact-cpu", "tolerance-0.001-cpu", "dense-released", "dense-tuned")]
    return compare(CUT, chosen, QUICK, unit=UNITS["fps"])


def test_rows_of_frames_a_second(frames_a_second):
    exact, tolerant, released, tuned = frames_a_second.rows
    assert all(row.matched for row in frames_a_second.rows)
    assert released.speedup == 1.0 and released.operator == RELEASED
    assert tuned.speedup == released.seconds / tuned.seconds
    work = 2 * 4 * (120**2 * 24 + 120 * 121 / 2 * 24 + 120**2 * 20 * 3)  # of four sub-maps, as in the first test
    assert exact.share_of_peak == pytest.approx(work / exact.seconds / 1e9)
    assert exact.pairs == CUT.pairs and exact.step_seconds
    assert 0 <= tolerant.dropped <= 1e-3 and tolerant.path


def test_a_walk_that_drops_more_than_its_tolerance_gets_no_speed():
    def dropping(problem):
        return Facts(dropped=2e-3)

    wrong = replace(of("tolerance-0.001-cpu"), facts=dropping)
    (row,) = compare(CUT, [wrong], QUICK).rows
    assert row.error <= row.bound and row.matched is False and row.seconds is None
    assert "or it drops 2.0e-03 of a row" in markdown(record(compare(CUT, [wrong], QUICK)))


def test_bytes_of_a_step():
    assert step_bytes_least(CUT, 1000) == 2 * (1000 + 3 * 480 * 20)
    assert step_bytes_least(UNCUT, 1000) == 4 * (1000 + 3 * 104 * 5)
    assert step_bytes_gathered(CUT, 1000) == CpuDevice().step_bytes(CUT, 1000) == 4 * 1000 * 20


def test_record_and_table_of_frames_a_second(frames_a_second):
    made = record(frames_a_second, command="rwpm-fast bench fps", kind="fps", network_ms=90)
    again = Record.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made and made.sound
    text = markdown(again)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 and len({line.count("|") for line in lines}) == 1
    assert "T + 1" in text and "90 ms a frame" in text and "published" not in text
    assert f"| {1 / (made.cases[0].rows[3].seconds + 0.09):.4g} |" in lines[-1]


PUBLISHED = Case(184, 320, value_channels=256, settings=WalkSettings(parts=2))


def test_published_figures_stand_at_their_own_case_only(frames_a_second):
    found = published_row(PUBLISHED)
    assert found.with_network == 2.04 and 1 / found.alone == pytest.approx(0.40, abs=0.005)
    others = [PUBLISHED.with_steps(5), replace(PUBLISHED, width=512), replace(PUBLISHED, value_channels=19)]
    for other in [*others, replace(PUBLISHED, settings=WalkSettings(alpha=0.9, parts=2))]:
        assert published_row(other) is None
    made = record(replace(frames_a_second, case=PUBLISHED), kind="fps")
    (line,) = [line for line in markdown(made).splitlines() if line.startswith("| published")]
    assert "| 400 |" in line and "| 2.04 |" in line and "A6000" in line


def test_a_gpu_is_named(frames_a_second):
    made = record(frames_a_second, kind="fps")
    made.machine["gpu"] = {"name": "Some GPU", "driver": "1.2", "cuda": "13.0", "triton": "3.6"}
    assert "Some GPU, driver 1.2, CUDA 13.0, Triton 3.6, torch" in markdown(made)
    assert made.where == "Some GPU"


@pytest.mark.parametrize("kind", UNITS)
def test_no_share_above_the_peak_is_shown(frames_a_second, kind):
    def shown(share):
        row = replace(frames_a_second.rows[0], share_of_peak=share)
        return markdown(record(replace(frames_a_second, rows=(row,)), kind=kind))

    assert "| 97% |" in shown(0.97) and "%" not in shown(1.02).splitlines()[-1]


def test_numbers_that_are_none_survive_json(tmp_path):
    file = tmp_path / "record.json"
    write_json(file, record(compare(CASE, [contender(broken)], QUICK)).to_json())
    made = Record.from_json(json.loads(file.read_text()))
    assert math.isnan(made.cases[0].rows[0].error) and "| nan float64 dense |" in markdown(made)


def test_old_rows_are_read():
    old = {"contender": "exact-amx", "label": "x", "operator": "the walk on 50 nearest neighbours", "matched": True}
    old |= {"against": "float64 neighbours", "error": 1e-7, "share_of_peak": 3.1, "step_share_of_peak": 2.0}
    row = Result.from_json(old | {"no longer known": 1}, 1)
    assert (row.operator, row.against) == (NEAREST, "float64 neighbors")
    assert row.share_of_peak is row.step_share_of_peak is None  # counted otherwise
    assert Result.from_json(old | {"contender": "dense"}, 1).share_of_peak == 3.1
    assert Result.from_json(old).share_of_peak == 3.1
