"""Graphs that are built with the hints of a previous one: whatever the hints, the certificate holds."""

import pytest
import torch

import rwpm_fast
from python_tests.conftest import ISAS
from python_tests.helpers import gaps, manifold
from python_tests.ops.test_certificate import Exact, draw, violations
from rwpm_fast.ops.cpu_matrix import Hints

pytestmark = pytest.mark.skipif(not ISAS, reason="no compiled kernels")

N, D = 1100, 40
KINDS = ["next frame", "random", "extreme", "not a number", "another image"]


def moved(e, amount, seed):
    noise = torch.randn(e.shape, generator=torch.Generator().manual_seed(seed))
    return e + amount * e.norm(dim=1, keepdim=True) / e.shape[1] ** 0.5 * noise


def hinted(kind, case):
    """A graph with hints for those of the embeddings of a case; None where it streams."""
    e, settings = case.embeddings, {"mask": case.mask, **case.graph}
    if kind == "another image":
        e = manifold(*e.shape, directions=30, seed=8)
    graph = rwpm_fast.transition(moved(e, 0.1, 1), **settings)
    graph = rwpm_fast.transition(moved(e, 0.2, 2), **settings, previous=graph)
    if graph.path == "streaming":
        return None
    numbers = graph._matrix.hints.numbers
    generator = torch.Generator().manual_seed(3)
    if kind == "random":
        numbers = 50 * torch.randn(numbers.shape, generator=generator)
    if kind == "extreme":
        numbers = torch.tensor([-150.0, 150.0, 3e38, -3e38])[torch.randint(4, numbers.shape, generator=generator)]
    if kind == "not a number":
        numbers = torch.where(torch.rand(numbers.shape, generator=generator) < 0.9, torch.nan, numbers)
    graph._matrix.hints = Hints(graph._matrix.hints.shape, numbers)
    return graph


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_holds_for_any_hints(isa, kind):
    sparse = 0
    for seed in range(8):
        exact = Exact(draw(seed))
        case = exact.case
        previous = hinted(kind, case)
        if previous is None:
            continue
        graph = rwpm_fast.transition(case.embeddings, mask=case.mask, **case.graph, previous=previous)
        assert not (broken := violations(exact, graph, isa)), f"{case}: {broken}"
        sparse += graph.path == "sparse"
    assert sparse >= 3


def test_a_sequence_keeps_its_hints(isa):
    e = manifold(N, D, directions=80, noise=0.6)
    graph, kept = None, []
    for k in range(5):
        graph = rwpm_fast.transition(moved(e, 0.1, k), previous=graph)
        assert graph.path == "sparse"
        assert graph.dropped_mass.max() <= 1e-4
        kept.append(int(graph.kept_per_row.sum()))
        assert (graph._matrix.hints is None) == (k == 0)
    assert min(kept) > 0.5 * max(kept)


def test_the_same_hints_give_the_same_bits():
    e = manifold(N, D, directions=80, noise=0.6)
    first = rwpm_fast.transition(e)
    second = rwpm_fast.transition(e, previous=first)
    values = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    walked = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            walked.append(rwpm_fast.transition(moved(e, 0.1, 1), previous=second).walk(values))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*walked, rtol=0, atol=0)


def test_masks_may_change_from_frame_to_frame():
    e = manifold(N, D, directions=80, noise=0.6)
    few, mask = gaps(e)
    graph = rwpm_fast.transition(few, mask=mask)
    for embeddings, valid in ((few, mask), (e, None), (few, ~mask), (e, None)):
        graph = rwpm_fast.transition(embeddings, mask=valid, previous=graph)
        assert graph.dropped_mass.max() <= 1e-4


def test_a_graph_of_another_size_is_passed_over():
    e = manifold(N, D, directions=80, noise=0.6)
    other = rwpm_fast.transition(e[:-1], previous=rwpm_fast.transition(e[:-1]))
    streams = rwpm_fast.transition(e, tolerance=0)
    plain = rwpm_fast.transition(e).to_csr()
    for previous in (other, streams):
        S = rwpm_fast.transition(e, previous=previous).to_csr()
        torch.testing.assert_close(S.values(), plain.values(), rtol=0, atol=0)


def test_what_previous_may_be():
    e = manifold(N, D)
    with pytest.raises(TypeError, match="previous: expected a Transition"):
        rwpm_fast.transition(e, previous=e)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (torch.zeros(2 * N - 1), rf"hints: .* \[0\], \[{2 * N}\]"),
        (torch.zeros(2, N), "hints: .*got shape"),
        (torch.zeros(2 * N, dtype=torch.float64), "hints: .*torch.float64"),
    ],
)
def test_the_operator_checks_hints(hints, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.rwpm.transition.in_sequence(manifold(N, D), hints=hints)


def test_opcheck():
    operator = torch.ops.rwpm.transition.in_sequence
    e = manifold(600, 16, directions=40)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator, (e,), {"hints": None}, test_utils=tests)
    torch.library.opcheck(operator, (e,), {"hints": operator(e, hints=None)[-1]}, test_utils=tests)
