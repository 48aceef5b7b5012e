"""Single contenders under pytest-benchmark, for who works on one of them.

    pytest bench -m bench -k exact-avx512 --pixels 4096 --benchmark-compare

Ratios come from ``python -m bench``, which runs contenders in turn: runs one after the other meet different machines.
"""

from functools import partial

import pytest

from bench.suites.cpu_peers import peers
from rwpm_fast.benchmark import Case, Unavailable, isas, machine, map_shape, ours, torch_walks
from rwpm_fast.benchmark.reference import expected

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")

CONTENDERS = [ours(isa, tolerance) for tolerance in (0.0, 1e-3, 1e-4) for isa in isas()] + torch_walks() + peers()


def run(benchmark, contender, case, rounds):
    problem = case.problem()
    try:
        walk = contender.prepare(problem)
    except Unavailable as reason:
        pytest.skip(str(reason))
    benchmark.group = case.title()
    result = benchmark.pedantic(walk, rounds=rounds, warmup_rounds=1)
    error = expected(problem, contender.operator, memory=machine.free_memory() / 2).error(result)
    benchmark.extra_info["error"] = error
    assert error <= contender.bound(case)


@pytest.mark.bench
@pytest.mark.parametrize("contender", CONTENDERS, ids=[c.key for c in CONTENDERS])
def test_walk(benchmark, request, contender):
    option = partial(request.config.getoption, skip=True)
    case = Case(*map_shape(option("--pixels")), value_channels=option("--value-channels"))
    run(benchmark, contender, case, rounds=5)


def test_smoke(benchmark):
    run(benchmark, ours(isas()[0]), Case(8, 8, channels=16, value_channels=3), rounds=1)
