"""The limit of the walk against dense solves in float64."""

import math

import pytest
import torch

import rwpm_fast
from python_tests.helpers import dense, error_of_largest, gaps, manifold, relative_error
from rwpm_fast import reference
from rwpm_fast.ops.solver import solve

N = 1200


def solved(S, v, alpha):
    identity = torch.eye(len(S), dtype=torch.float64)
    return torch.linalg.solve(identity - alpha * S, (1 - alpha) * v.double())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("path", ["sparse", "streaming"])
def test_solves_the_closed_form(sparse_map, path, alpha):
    e, v = sparse_map if path == "sparse" else (x[:300] for x in sparse_map)
    e, mask = gaps(e) if path == "sparse" else (e, torch.arange(300) % 9 > 0)
    graph = rwpm_fast.transition(e, mask=mask)
    assert graph.path == path
    solution = graph.solve(v, alpha=alpha)
    assert solution.converged and solution.residual <= 1e-6
    S = graph.to_csr().to_dense().double() if path == "sparse" else dense(e, mask)
    S /= S.sum(1, keepdim=True)
    expected = solved(S, v, alpha)
    # float32 rounds the result; the residual bounds the rest.
    assert error_of_largest(solution.values, expected, v) <= 1e-6 + 1e-7
    if alpha < 0.999:
        bound = graph.error_bound(alpha=alpha, steps=math.inf) + 1e-5 / (1 - alpha)
        assert error_of_largest(solution.values, solved(dense(e, mask), v, alpha), v) <= bound


def test_residual_is_the_true_one(sparse_map):
    e, v = sparse_map[0], sparse_map[1].double()
    graph = rwpm_fast.transition(e)
    S = graph.to_csr().to_dense().double()
    S /= S.sum(1, keepdim=True)
    for most in (1, 2, 5, 17, 1000):
        solution = graph.solve(v, alpha=0.95, max_iterations=most)
        m = solution.values
        left = (0.05 * v - m + 0.95 * S @ m).abs().amax(0) / (0.05 * v.abs().amax(0))
        assert solution.residual == pytest.approx(left.max().item(), rel=1e-6, abs=1e-12)
        assert solution.iterations <= most
        assert solution.converged == (solution.residual <= 1e-6)
    assert solution.converged


def test_takes_fewer_transitions_than_the_walk(sparse_map):
    e, v = sparse_map
    graph = rwpm_fast.transition(e)
    solution = graph.solve(v.double(), rtol=1e-6)
    exact = graph.solve(v.double(), rtol=1e-10).values
    walked = graph.walk(v.double(), steps=3 * solution.iterations)
    assert error_of_largest(solution.values, exact, v) < 0.1 * error_of_largest(walked, exact, v)


def test_solution_is_the_limit_of_the_walk():
    e, v = manifold(90, 8, dtype=torch.float64), manifold(90, 3, seed=1, dtype=torch.float64)
    solution = rwpm_fast.transition(e).solve(v, alpha=0.9, rtol=1e-12)
    assert relative_error(solution.values, reference.walk(e, v, alpha=0.9, steps=400)) <= 1e-12


def test_solution_keeps_constants_and_empty_channels(sparse_map):
    graph = rwpm_fast.transition(sparse_map[0])
    v = torch.zeros(N, 2, dtype=torch.float64)
    v[:, 0] = 0.7
    solution = graph.solve(v, alpha=0.999)
    torch.testing.assert_close(solution.values, v, rtol=1e-6, atol=0)
    assert graph.solve(torch.zeros(N, 1)).residual == 0


def test_solution_has_the_dtype_of_the_values(sparse_map):
    e, v = sparse_map
    graph = rwpm_fast.transition(e)
    wanted = graph.solve(v.double(), alpha=0.9).values
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        got = graph.solve(v.to(dtype), alpha=0.9).values
        assert got.dtype == dtype
        assert error_of_largest(got, wanted, v) <= 2 * torch.finfo(dtype).eps


def test_unfinished_solution_says_so(sparse_map):
    e, v = sparse_map
    solution = rwpm_fast.transition(e).solve(v, max_iterations=3)
    assert not solution.converged
    assert solution.iterations == 3 and solution.residual > 1e-6


def test_solver_falls_back_on_the_walk():
    """Eigenvalues all around the unit circle, where Chebyshev polynomials of [-1, 1] grow without end."""
    n, alpha = 40, 0.9
    S = torch.eye(n, dtype=torch.float64).roll(1, 0)
    v = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    m, residual, iterations = solve(lambda x: S @ x, v, alpha=alpha, rtol=1e-8, max_iterations=10_000)
    assert residual <= 1e-8
    assert error_of_largest(m, solved(S, v, alpha), v) <= 1e-8
    walk = math.log(1e-8 / 20) / math.log(alpha)  # residuals start below (1 + alpha) / (1 - alpha)
    assert iterations <= 2 * walk
