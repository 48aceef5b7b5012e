import pytest
import torch

from python_tests.helpers import manifold, relative_error
from rwpm_fast import reference
from rwpm_fast.ops import eager, streamed_graph
from rwpm_fast.ops.settings import WalkSettings

DTYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)


def walk(embeddings, values=None, mask=None, *, adjoint=False, **settings):
    return eager.walk(embeddings, values, mask, WalkSettings(**settings), adjoint=adjoint)


@pytest.fixture(params=[1, 700, streamed_graph.SLAB], ids=["row by row", "few rows", "one slab"])
def slab(request, monkeypatch):
    monkeypatch.setattr(streamed_graph, "SLAB", request.param)
    return request.param


@DTYPES
@pytest.mark.parametrize("pixels", [0, 1, 2, 3, 90])
def test_equals_the_definition(slab, pixels, dtype, tolerance):
    e, v = manifold(pixels, 8, dtype=dtype), manifold(pixels, 3, seed=1, dtype=dtype)
    got = walk(e, v, steps=4)
    assert got.dtype == dtype
    assert relative_error(got, reference.walk(e.double(), v.double(), steps=4)) <= tolerance


@DTYPES
def test_adjoint_is_the_transpose(slab, dtype, tolerance):
    e, g = manifold(90, 8, dtype=dtype), manifold(90, 3, seed=1, dtype=dtype)
    S = reference.transition(e.double())
    wanted = g.double()
    for _ in range(3):
        wanted = 0.9 * S.T @ wanted + 0.1 * g.double()
    assert relative_error(walk(e, g, alpha=0.9, steps=3, adjoint=True), wanted) <= tolerance


@pytest.mark.parametrize("temperature", [1e-8, 1e-40, 5e-324])
@pytest.mark.parametrize("adjoint", [False, True], ids=["walk", "adjoint"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_cold_walk_is_bounded(slab, adjoint, temperature, dtype):
    """Rows of S sum to 1, so that neither way can yield more than N times the largest value."""
    e, v = manifold(200, 64, dtype=dtype), manifold(200, 3, seed=1, dtype=dtype)
    got = walk(e, v, temperature=temperature, steps=1, adjoint=adjoint)
    assert got.abs().max() <= 200 * v.abs().max()


@DTYPES
@pytest.mark.parametrize("temperature", [1e3, 1e300])
def test_hot_walk_is_the_mean_of_the_others(temperature, dtype, tolerance):
    e, v = manifold(50, 8, dtype=dtype), manifold(50, 3, seed=1, dtype=dtype)
    wanted = reference.walk(e.double(), v.double(), temperature=temperature)
    assert relative_error(walk(e, v, temperature=temperature), wanted) <= tolerance


@pytest.mark.parametrize("norm", [1e-30, 1e-13, 1e-12, 1e18, 1e30])
def test_norms(norm):
    e, v = manifold(60, 8) * norm, manifold(60, 3, seed=1)
    e[5] = 0
    assert relative_error(walk(e, v, steps=3), reference.walk(e.double(), v.double(), steps=3)) <= 1e-5


def test_left_out_pixels_keep_their_values():
    e, v = manifold(2, 40, 6), manifold(2, 40, 3, seed=1)
    e[0, 3, 1], v[0, 9, 2], v[1, 0, 0] = torch.nan, torch.inf, torch.nan
    mask = torch.arange(80).reshape(2, 40) % 5 > 0
    got = walk(e, v, mask, steps=3)
    valid = reference.valid_pixels(e, v, mask)
    torch.testing.assert_close(got[~valid], v[~valid], rtol=0, atol=0, equal_nan=True)
    wanted = reference.walk(e.double(), v.double(), mask=mask, steps=3)
    assert relative_error(got[valid], wanted[valid]) <= 1e-5


def test_adjoint_hides_no_broken_gradient():
    e, g = manifold(30, 6), manifold(30, 3, seed=1)
    g[4] = torch.inf
    assert not walk(e, g, temperature=1.0, steps=1, adjoint=True).isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_is_computed_in_float32(dtype):
    e, v = manifold(60, 8, dtype=dtype), manifold(60, 3, seed=1, dtype=dtype)
    got = walk(e, v, steps=3)
    assert got.dtype == dtype
    assert torch.equal(got, walk(e.float(), v.float(), steps=3).to(dtype))


def test_result_is_contiguous_and_new():
    e = manifold(20, 6)
    v = manifold(3, 20, seed=1).T
    for got in (walk(e, v), walk(e, v, steps=0)):
        assert got.is_contiguous()
        assert got.data_ptr() != v.data_ptr()
    assert walk(torch.zeros(2, 0, 4)).shape == (2, 0, 4)
    assert walk(torch.zeros(0, 5, 4)).shape == (0, 5, 4)
    assert walk(e, v[:, :0]).shape == (20, 0)
