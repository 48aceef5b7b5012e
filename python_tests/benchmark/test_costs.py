"""Operations that are counted are those that are done: by walks that count theirs as they multiply."""

import re
from pathlib import Path

import pytest
import torch

from python_tests.helpers import relative_error
from rwpm_fast import reference
from rwpm_fast.benchmark import Case, costs
from rwpm_fast.ops.settings import WalkSettings

COST_H = Path(__file__).parents[2] / "csrc" / "cpu" / "cost.h"


class Counter:
    """Products that count their operations."""

    def __init__(self):
        self.operations = 0

    def product(self, a, b):
        self.operations += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return a @ b


def exact_cpu(q, v, settings, block, max_kept, counter):
    """The walk as csrc/cpu/exact_kernel.cpp does it: row sums first; then pairs of blocks, whose cosines serve both and
    are kept where there is room."""
    tau, alpha = settings.temperature, settings.alpha
    logits = counter.product(q, q.T).fill_diagonal_(-torch.inf) / tau
    row_lse = logits.logsumexp(-1, keepdim=True)
    blocks = [slice(begin, min(begin + block, len(q))) for begin in range(0, len(q), block)]
    pairs = [(a, b) for i, a in enumerate(blocks) for b in blocks[i:]]
    kept, room, m = {}, max_kept, v
    for _ in range(settings.steps):
        walked = (1 - alpha) * v
        for number, (a, b) in enumerate(pairs):
            cosines = kept.get(number)
            if cosines is None:
                cosines = counter.product(q[a], q[b].T)
                if cosines.numel() <= room:
                    kept[number], room = cosines, room - cosines.numel()
            x = cosines / tau
            if a == b:
                x = x.clone().fill_diagonal_(-torch.inf)
            walked[a] += alpha * counter.product((x - row_lse[a]).exp(), m[b])
            if a != b:
                walked[b] += alpha * counter.product((x - row_lse[b].T).exp().T, m[a])
        m = walked
    return m


def streamed(q, v, settings, counter, *, sums):
    """Every transition makes all weights; with the rows' sums in a pass before, or in each."""
    logits = (counter.product(q, q.T) if sums else q @ q.T).fill_diagonal_(-torch.inf) / settings.temperature
    row_lse, m = logits.logsumexp(-1, keepdim=True), v
    for _ in range(settings.steps):
        weights = (counter.product(q, q.T).fill_diagonal_(-torch.inf) / settings.temperature - row_lse).exp()
        m = settings.alpha * counter.product(weights, m) + (1 - settings.alpha) * v
    return m


def dense(q, v, settings, counter):
    S = torch.softmax(counter.product(q, q.T).fill_diagonal_(-torch.inf) / settings.temperature, -1)
    m = v
    for _ in range(settings.steps):
        m = settings.alpha * counter.product(S, m) + (1 - settings.alpha) * v
    return m


def case_of(steps, parts):
    return Case(6, 10, channels=7, value_channels=3, settings=WalkSettings(steps=steps, parts=parts))


def counted(case, walk, *arguments, **more):
    """Operations of a walk, which is the walk."""
    problem, counter = case.problem(), Counter()

    def on(e, v):
        q = torch.nn.functional.normalize(e.double(), dim=-1)
        return walk(q, v.double(), case.settings, *arguments, counter=counter, **more)

    expected = reference.walk(problem.embeddings.double(), problem.values.double(), **problem.settings)
    assert relative_error(problem.each(on), expected) < 1e-12
    return counter.operations


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_dense_and_streamed(steps, parts):
    case = case_of(steps, parts)
    if steps:  # else nothing is made
        assert costs.flops_dense(case) == counted(case, dense)
        assert costs.flops_exact_tiled(case) == counted(case, streamed, sums=True)
    assert costs.flops_streamed(case) == counted(case, streamed, sums=False)
    assert costs.flops_released(case) == costs.flops_dense(case.with_steps(steps + 1))


@pytest.mark.parametrize("max_kept", [0, 100, 10**6])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_exact_walk_on_the_cpu(steps, parts, max_kept):
    case = case_of(steps, parts)
    assert costs.flops_exact_cpu(case, max_kept) == counted(case, exact_cpu, 1, max_kept)
    # In blocks the squares on the diagonal are whole, so that somewhat more is done than is counted, and never less.
    for block in (4, 8):
        done = counted(case, exact_cpu, block, max_kept)
        assert done - 2 * 7 * 60 * block * steps <= costs.flops_exact_cpu(case, max_kept) <= done


def test_no_steps_are_no_work():
    assert costs.flops_exact_cpu(case_of(0, 1)) == costs.flops_exact_tiled(case_of(0, 1)) == 0


def test_a_cosine_that_is_kept_is_less_work():
    """As if every weight were made at every step, as records before format 2 have it, is 3 to 7 times too much."""
    for shape, factor in (((24, 42), 7.2), ((90, 160), 3.4)):
        case = Case(*shape, channels=259)
        assert costs.flops_streamed(case) / costs.flops_exact_cpu(case) == pytest.approx(factor, abs=0.1)
        assert costs.flops_exact_cpu(case, 0) < costs.flops_streamed(case)  # a cosine serves both its pixels


def test_kept_cosines_are_those_of_the_kernel():
    megabytes, shift = re.search(r"max_cache_bytes = int64_t\((\d+)\) << (\d+);", COST_H.read_text()).groups()
    assert int(megabytes) << int(shift) == 4 * costs.MAX_KEPT_COSINES
