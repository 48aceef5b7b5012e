"""Single contenders of ``rwpm-fast bench fps`` under pytest-benchmark, on the GPU where there is one.

pytest bench/test_fps.py -m bench -k tolerance-0.001-triton --pixels 58880 --value-channels 256
"""

from functools import partial

import pytest
import torch

from rwpm_fast.benchmark import Unavailable, map_shape
from rwpm_fast.benchmark.fps import Device, Frame, walkers

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")

STAGE = Device("cuda" if torch.cuda.is_available() else "cpu")
CONTENDERS = walkers(Frame(2, 2, device=str(STAGE.device)), [1e-3, 1e-4])


def run(benchmark, contender, frame, rounds):
    problem = frame.problem()
    try:
        walk = contender.prepare(problem)
        walk()
    except Unavailable as reason:
        pytest.skip(str(reason))

    def finished():
        result = walk()
        if result.is_cuda:
            torch.cuda.synchronize()
        return result

    benchmark.group = frame.title()
    result = benchmark.pedantic(finished, rounds=rounds, warmup_rounds=1)
    error = STAGE.expected(problem, contender.operator, memory=STAGE.free_memory()).error(result)
    benchmark.extra_info["error"] = error
    assert error <= contender.bound(frame)


@pytest.mark.bench
@pytest.mark.parametrize("contender", CONTENDERS, ids=[c.key for c in CONTENDERS])
def test_frame(benchmark, request, contender):
    option = partial(request.config.getoption, skip=True)
    shape, device = map_shape(option("--pixels")), str(STAGE.device)
    settings = {"parts": option("--parts"), "dtype": option("--dtype"), "device": device}
    run(benchmark, contender, Frame(*shape, value_channels=option("--value-channels"), **settings), rounds=5)


def test_smoke(benchmark):
    tuned = next(c for c in CONTENDERS if c.key == "dense-tuned")
    frame = Frame(8, 8, channels=16, value_channels=3, steps=2, parts=2, dtype="float32", device=str(STAGE.device))
    run(benchmark, tuned, frame, rounds=1)
