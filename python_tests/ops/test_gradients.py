"""Gradients with respect to the values alone: the walk by the transpose, which has a gradient itself."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import rwpm_fast
from python_tests.helpers import manifold, relative_error
from rwpm_fast import reference

FLOAT32, FLOAT64 = 1e-5, 1e-12  # as in test_walk.py
DTYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)], ids=["float32", "float64"]
)


def graph_with_gaps(manifold, pixels=9):
    e = manifold(pixels, 5, dtype=torch.float64)
    e[4, 2] = torch.nan
    return e, torch.arange(pixels) != 1


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_gradcheck(steps):
    e, mask = graph_with_gaps(manifold)
    v = manifold(9, 2, seed=1, dtype=torch.float64).requires_grad_()

    def walk(values):
        return torch.ops.rwpm.walk(e, values, mask, alpha=0.8, steps=steps, temperature=0.1)

    def adjoint(gradient):
        return torch.ops.rwpm.walk_adjoint(gradient, e, mask, alpha=0.8, steps=steps, temperature=0.1)

    assert gradcheck(walk, v)
    assert gradgradcheck(walk, v)
    assert gradcheck(adjoint, v)


@pytest.mark.parametrize("leading", [(40,), (2, 40)], ids=["flat", "batched"])
def test_gradient_is_that_of_the_definition(leading):
    e, v = manifold(*leading, 6, dtype=torch.float64), manifold(*leading, 3, seed=1, dtype=torch.float64)
    e[..., 7, 0], v[..., 11, 1], v[..., 12, 2] = torch.nan, torch.inf, torch.nan
    mask = torch.ones(leading, dtype=torch.bool)
    mask[..., 20:25] = False
    upstream = manifold(*leading, 3, seed=2, dtype=torch.float64)
    setting = {"mask": mask, "steps": 4, "temperature": 0.05}
    (wanted,) = torch.autograd.grad(reference.walk(e, v.requires_grad_(), **setting), v, upstream)
    for values in (v, v.detach().mT.contiguous().mT.requires_grad_()):
        (got,) = torch.autograd.grad(rwpm_fast.walk(e, values, **setting), values, upstream)
        assert relative_error(got, wanted) <= FLOAT64
    out = ~reference.valid_pixels(e, v, mask)
    assert torch.equal(got[out], upstream[out])


def test_gradient_of_a_sum_comes_expanded():
    e, v = manifold(30, 6), manifold(30, 3, seed=1).requires_grad_()
    (got,) = torch.autograd.grad(rwpm_fast.walk(e, v, steps=3).sum(), v)
    (wanted,) = torch.autograd.grad(reference.walk(e.double(), v.double(), steps=3).sum(), v)
    assert relative_error(got, wanted) <= FLOAT32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_gradient_has_the_dtype_of_the_values(dtype):
    v = manifold(20, 3, seed=1, dtype=dtype).requires_grad_()
    rwpm_fast.walk(manifold(20, 6), v).sum().backward()
    assert v.grad.dtype == dtype


@DTYPES
@pytest.mark.parametrize("pixels", [2, 49, 193, 289])
def test_adjoint_is_the_transpose(isa, pixels, dtype, tolerance):
    e, g = manifold(pixels, 12, dtype=dtype), manifold(pixels, 5, seed=1, dtype=dtype)
    S = reference.transition(e.double())
    wanted = g.double()
    for _ in range(3):
        wanted = 0.9 * S.T @ wanted + 0.1 * g.double()
    assert relative_error(torch.ops.rwpm.walk_adjoint(g, e, alpha=0.9, steps=3), wanted) <= tolerance


def test_broken_gradient_shows():
    e, g = manifold(30, 6), manifold(30, 3, seed=1)
    g[4] = torch.nan
    assert not torch.ops.rwpm.walk_adjoint(g, e, temperature=1.0, steps=1).isfinite().any()


def test_adjoint_has_no_embedding_gradient():
    e = manifold(20, 5).requires_grad_()
    with pytest.raises(NotImplementedError, match="embeddings: no second gradient through a walk"):
        torch.ops.rwpm.walk_adjoint(e.detach(), e)


@pytest.mark.parametrize("backend", ["auto", "cpu", "torch"])
def test_backends_that_are_named_have_gradients(backend):
    e, v = manifold(20, 5, dtype=torch.float64), manifold(20, 3, seed=1, dtype=torch.float64).requires_grad_()

    def walk(values):
        return rwpm_fast.walk(e, values, steps=3, temperature=0.1, backend=backend)

    assert gradcheck(walk, v) and gradgradcheck(walk, v)
    with torch.no_grad():
        assert not walk(v).requires_grad
