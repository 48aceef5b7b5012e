"""Single contenders under pytest-benchmark, to work on one of them.

    pytest bench -m bench -k "test_walk and exact-avx512" --pixels 4096 --benchmark-compare
    pytest bench -m bench -k "test_fps and tolerance-0.001-triton" --pixels 58880 --value-channels 256

``test_walk`` has those of ``python -m bench``, ``test_fps`` those of ``rwpm-fast bench fps``, on a GPU where there is
one. Ratios come from the commands, which run contenders in turn: runs one after the other meet different machines.
"""

import pytest
import torch

from bench.suites.cpu_peers import peers
from rwpm_fast.benchmark import Case, Unavailable, fps_entries, isas, map_shape, open_device, our_walk, walk_entries
from rwpm_fast.benchmark.reference import reference_of
from rwpm_fast.ops.settings import WalkSettings

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")

DEVICE = open_device("cuda" if torch.cuda.is_available() else "cpu")
FPS = {"smooth": True, "device": DEVICE.name}
TOLERANCES = [1e-3, 1e-4]
WALKS = walk_entries(Case(2, 2), TOLERANCES, isas()) + peers()
FPS_WALKS = fps_entries(Case(2, 2, **FPS, dtype="float16"), TOLERANCES)


def run(benchmark, contender, case, rounds):
    device, problem = open_device(case.device), case.problem()
    try:
        walk = contender.prepare(problem)
    except Unavailable as reason:
        pytest.skip(str(reason))

    def finished():
        result = walk()
        if result.is_cuda:
            torch.cuda.synchronize()
        return result

    benchmark.group = case.title()
    result = benchmark.pedantic(finished, rounds=rounds, warmup_rounds=1)
    memory = device.free_memory()
    error = reference_of(problem, contender.operator, memory=memory, method=device.method).error(result)
    benchmark.extra_info["error"] = error
    assert error <= contender.largest_error(case)


@pytest.fixture
def option(request):
    return lambda name: request.config.getoption(name, skip=True)


@pytest.mark.bench
@pytest.mark.parametrize("contender", WALKS, ids=[c.key for c in WALKS])
def test_walk(benchmark, option, contender):
    run(benchmark, contender, Case(*map_shape(option("--pixels")), value_channels=option("--value-channels")), rounds=5)


@pytest.mark.bench
@pytest.mark.parametrize("contender", FPS_WALKS, ids=[c.key for c in FPS_WALKS])
def test_fps(benchmark, option, contender):
    shape, settings = map_shape(option("--pixels")), WalkSettings(parts=option("--parts"))
    facts = {"value_channels": option("--value-channels"), "settings": settings, "dtype": option("--dtype")}
    run(benchmark, contender, Case(*shape, **facts, **FPS), rounds=5)


def test_smoke(benchmark):
    run(benchmark, our_walk(isas()[0]), Case(8, 8, channels=16, value_channels=3), rounds=1)


def test_smoke_of_frames_a_second(benchmark):
    tuned = next(c for c in FPS_WALKS if c.key == "dense-tuned")
    case = Case(8, 8, channels=16, value_channels=3, settings=WalkSettings(steps=2, parts=2), **FPS)
    run(benchmark, tuned, case, rounds=1)
