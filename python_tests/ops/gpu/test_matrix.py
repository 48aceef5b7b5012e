"""A graph compiled once by Triton's kernels, as :class:`rwpm_fast.Transition` holds it on a GPU."""

import pytest
import torch

import rwpm_fast
from python_tests.helpers import dense, error_of_largest, manifold, relative_error, road
from rwpm_fast import reference
from rwpm_fast.ops.gpu.matrix import build_matrix
from rwpm_fast.ops.graph import Transition

N, TOLERANCE = 300, 1e-4


@pytest.fixture
def graph(device):
    """The graph of 290 of 300 pixels, and the embeddings of all."""
    e, valid = road(N, 24), torch.arange(N) % 30 > 0
    inside = e[valid].to(device)
    matrix = build_matrix(inside, temperature=0.01, tolerance=TOLERANCE)
    assert matrix is not None
    return Transition(valid.to(device), 0.01, matrix=matrix), e, valid


def test_walks_as_the_walk_does(device, graph):
    made, e, valid = graph
    v = manifold(N, 5, seed=1).to(device)
    assert (made.path, made.pixels) == ("sparse", 290)
    walked = rwpm_fast.walk(e.to(device)[valid], v[valid], backend="triton", tolerance=TOLERANCE, steps=7)
    got = made.walk(v, steps=7)
    assert torch.equal(got[valid], walked)
    assert torch.equal(got[~valid], v[~valid])
    assert torch.equal(made.walk(v, steps=0), v)


def test_is_the_exact_matrix_but_for_what_it_dropped(graph):
    made, e, valid = graph
    S, exact = made.to_csr().to_dense().double().cpu(), dense(e, valid)
    kept = S > 0
    assert torch.equal(kept[valid].sum(1), made.kept_per_row[valid].cpu())
    lost = exact.where(~kept, 0).sum(1)
    assert (lost <= made.dropped_mass.cpu()).all()
    assert 0 < made.dropped_mass.max() <= TOLERANCE
    torch.testing.assert_close(S.sum(1), torch.ones(N, dtype=torch.float64), rtol=1e-5, atol=0)
    torch.testing.assert_close(S * (1 - lost[:, None]), exact.where(kept, 0), rtol=1e-4, atol=1e-9)


def test_error_is_within_its_bound(device, graph):
    made, e, valid = graph
    v = manifold(N, 5, seed=1)
    expected = reference.walk(e.double(), v.double(), mask=valid, steps=9)
    for values in (v, v.double()):
        got = made.walk(values.to(device), steps=9).cpu()
        assert got.dtype == values.dtype
        assert error_of_largest(got, expected, v) <= made.error_bound(steps=9) + 1e-5


def test_solves(device, graph):
    made, _, _ = graph
    v = manifold(N, 2, seed=1).to(device)
    solution = made.solve(v, alpha=0.4, rtol=1e-8)
    assert solution.converged
    torch.testing.assert_close(solution.values, made.walk(v, alpha=0.4, steps=14), rtol=0, atol=1e-4)


def test_gradient_is_that_of_its_matrix(device, graph):
    made, _, valid = graph
    v, g = (manifold(N, 3, seed=seed).to(device) for seed in (1, 2))
    v.requires_grad_(True)
    made.walk(v, alpha=0.9, steps=4).backward(g)
    S, expected = made.to_csr().to_dense().double().cpu(), g.double().cpu()
    start = expected
    for _ in range(4):
        expected = 0.9 * S.T @ expected + 0.1 * start
    torch.testing.assert_close(v.grad.double().cpu()[valid], expected[valid], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("anchor", [{"anchor": -1.0}, {"anchor": 0.9}, {"anchor_share": 0.3}], ids=str)
def test_gradients_are_those_of_float64(device, anchor):
    """Triton's kernels against plain torch on the listed pairs, which float64 values take."""
    e = road(N, 24).to(device)
    v, g = (manifold(N, 3, seed=seed).to(device) for seed in (1, 2))
    matrix = build_matrix(e, temperature=0.01, tolerance=TOLERANCE)
    settings = {"alpha": 0.9, "steps": 3, "temperature": 0.01, "anchor": -1.0, "anchor_share": 0.0, **anchor}
    got, wanted = (matrix.gradients(g.to(dtype), e, v.to(dtype), **settings) for dtype in (v.dtype, torch.float64))
    errors = [relative_error(a, b) for a, b in zip(got, wanted, strict=True)]
    assert max(errors[:2]) <= 1e-5 and errors[2] <= 1e-3, errors
    assert [t.dtype for t in got] == [torch.float32, torch.float32, torch.float64]
    for steps, width in ((0, 3), (3, 0)):
        by_e, by_v, by_t = matrix.gradients(g[:, :width], e, v[:, :width], **{**settings, "steps": steps})
        assert (by_e == 0).all() and by_e.shape == e.shape and by_t == 0
        assert torch.equal(by_v, g[:, :width])


def test_a_graph_too_dense_gives_none(device):
    assert build_matrix(manifold(200, 24).to(device), temperature=1.0, tolerance=TOLERANCE) is None
