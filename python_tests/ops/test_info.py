"""What ``return_info`` tells of a walk."""

import pytest
import torch

import rwpm_fast
from python_tests.helpers import gaps, manifold, relative_error
from rwpm_fast import reference
from rwpm_fast.ops.info import WalkInfo


def check_seconds(info, phases):
    assert set(info.seconds) == phases
    assert all(t >= 0 for t in info.seconds.values())
    assert sum(info.seconds.values()) > 0


def test_sparse(sparse_map):
    e, v = sparse_map
    e, mask = gaps(e)
    result, info = rwpm_fast.walk(e, v, mask=mask, tolerance=1e-4, return_info=True)
    assert torch.equal(result, rwpm_fast.walk(e, v, mask=mask, tolerance=1e-4))
    graph = rwpm_fast.transition(e, mask=mask, tolerance=1e-4)
    assert (info.path, info.pixels, info.kept) == ("sparse", graph.pixels, int(graph.kept_per_row.sum()))
    assert info.dropped_mass == graph.dropped_mass.max().item()
    check_seconds(info, {"pack", "build", "steps"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_streaming(dtype):
    e, v = manifold(90, 6, dtype=dtype), manifold(90, 3, seed=1)
    v[4] = torch.nan
    result, info = rwpm_fast.walk(e, v, return_info=True)
    assert torch.equal(result[5:], rwpm_fast.walk(e, v)[5:])
    assert (info.path, info.pixels, info.kept, info.dropped_mass) == ("streaming", 89, 89 * 88, 0)
    check_seconds(info, {"pack", "build", "steps"})


def test_plain_torch():
    e = manifold(90, 6)
    result, info = rwpm_fast.walk(e, mask=torch.arange(90) > 5, backend="torch", return_info=True)
    assert torch.equal(result, rwpm_fast.walk(e, mask=torch.arange(90) > 5, backend="torch"))
    assert (info.path, info.pixels, info.kept) == ("torch", 84, 84 * 83)
    check_seconds(info, {"walk"})


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("change", [{"steps": 0}, {"alpha": 0.0}, {"mask": torch.arange(9) == 2}], ids=str)
def test_nothing_to_walk(backend, change):
    e = manifold(9, 4)
    result, info = rwpm_fast.walk(e, **change, backend=backend, return_info=True)
    assert torch.equal(result, e)
    assert (info.path, info.pixels, info.kept, info.dropped_mass) == ("none", 0, 0, 0)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_batch_has_one_each(backend):
    e, v = manifold(3, 40, 5), manifold(3, 40, 2, seed=1)
    mask = torch.arange(120).view(3, 40) >= 30
    result, info = rwpm_fast.walk(e, v, mask=mask, backend=backend, return_info=True)
    assert torch.equal(result, rwpm_fast.walk(e, v, mask=mask, backend=backend))
    assert [entry.pixels for entry in info] == [10, 40, 40]
    result, info = rwpm_fast.walk(e[:0], v[:0], backend=backend, return_info=True)
    assert result.shape == (0, 40, 2) and info == ()


def test_gradient_comes_through():
    e, v = manifold(40, 5, dtype=torch.float64), manifold(40, 2, seed=1, dtype=torch.float64).requires_grad_()
    result, info = rwpm_fast.walk(e, v, steps=3, return_info=True)
    assert isinstance(info, WalkInfo)
    (got,) = torch.autograd.grad(result.square().sum(), v)
    (wanted,) = torch.autograd.grad(reference.walk(e, v, steps=3).square().sum(), v)
    assert relative_error(got, wanted) <= 1e-12


WITHOUT_LIBRARY = """
import torch, rwpm_fast, warnings
from rwpm_fast import ops
warnings.simplefilter("ignore", ops.FallbackWarning)
e = torch.randn(2, 9, 4)
v = e.clone().requires_grad_()
result, info = rwpm_fast.walk(e, v, return_info=True)
assert torch.equal(result, rwpm_fast.walk(e, v))
assert [entry.path for entry in info] == ["torch", "torch"]
result.sum().backward()
assert v.grad.isfinite().all()
"""


def test_without_the_library(run_python, package_copy):
    run_python(WITHOUT_LIBRARY, paths=[package_copy("bare", compiled=False)])
