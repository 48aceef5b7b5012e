"""The anchored walk by Triton kernels, exact, sparse and mixed, and its transpose."""

import pytest
import torch

import rwpm_fast
from python_tests.helpers import gaps, manifold, relative_error, road
from rwpm_fast import reference
from rwpm_fast.ops import backends
from rwpm_fast.ops.settings import WalkSettings

ANCHORS = ({"anchor": 0.97}, {"anchor_share": 0.1}, {"anchor_share": 1.0})
each_anchor = pytest.mark.parametrize("anchor", ANCHORS, ids=str)


def exactly(e, v, mask=None, **settings):
    return reference.walk(e.double(), v.double(), mask=mask, **settings)


@each_anchor
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float16, 1e-3)], ids=str)
def test_exact_walk(device, anchor, dtype, bound):
    e, v = manifold(2, 150, 20, dtype=dtype), manifold(2, 150, 19, seed=1, dtype=dtype)
    mask = torch.rand(2, 150, generator=torch.Generator().manual_seed(2)) > 0.2
    e[0, 5, 3], v[1, 7, 2] = torch.nan, torch.inf
    inputs = [t.to(device) for t in (e, v, mask)]
    settings = {"steps": 5, "tolerance": 0, **anchor}
    got, infos = rwpm_fast.walk(*inputs[:2], mask=inputs[2], **settings, backend="triton", return_info=True)
    want = exactly(e, v, mask, steps=5, **anchor)
    inside = v.isfinite()
    assert relative_error(got.cpu()[inside], want[inside]) <= bound
    for entry, info in enumerate(infos):
        valid = reference.valid_pixels(e[entry], v[entry], mask[entry])
        r = reference.own_weights(e[entry][valid].double(), **anchor)
        assert abs(info.anchored - int((r >= 0.5).sum())) <= 1  # one of them may be at one half but for rounding


@each_anchor
def test_sparse_walk(device, anchor):
    e, mask = gaps(road(700, 16))
    v = manifold(700, 3, seed=1)
    inputs = [t.to(device) for t in (e, v, mask)]
    settings = {"steps": 4, "tolerance": 1e-4, **anchor}
    got, info = rwpm_fast.walk(*inputs[:2], mask=inputs[2], **settings, backend="triton", return_info=True)
    assert info.path in ("sparse", "mixed")
    want = exactly(e, v, mask, steps=4, **anchor)
    assert (got.cpu() - want).abs().max() <= (2 * 4 * info.dropped_mass + 2e-5) * v.abs().max()


@each_anchor
def test_transposed_walk(device, anchor):
    e, v, g = manifold(140, 12), manifold(140, 4, seed=1), manifold(140, 4, seed=2)
    values = v.double().requires_grad_()
    reference.walk(e.double(), values, steps=5, **anchor).backward(g.double())
    got = backends.TRITON.walk(e.to(device), g.to(device), None, WalkSettings(steps=5, **anchor), adjoint=True)
    assert relative_error(got.cpu(), values.grad) <= 1e-5


def test_published_walk_to_the_bit(device):
    e, v = manifold(200, 12).to(device), manifold(200, 4, seed=1).to(device)
    settings = {"steps": 3, "temperature": 1.0, "tolerance": 0, "backend": "triton"}
    plain = rwpm_fast.walk(e, v, **settings)
    assert torch.equal(rwpm_fast.walk(e, v, **settings, anchor=-1.0), plain)


@each_anchor
def test_matrix(device, anchor, monkeypatch):
    """What a graph on a GPU holds; on a processor the backend is chosen by hand."""
    monkeypatch.setattr(backends, "choose_backend", lambda *tensors: backends.TRITON)
    monkeypatch.setattr("rwpm_fast.ops.graph.choose_backend", lambda *tensors: backends.TRITON)
    e, v, g = road(700, 16).to(device), manifold(700, 3, seed=1).to(device), manifold(700, 3, seed=2).to(device)
    graph = rwpm_fast.transition(e, tolerance=1e-4)
    assert graph.path == "sparse"
    want = exactly(e, v, steps=6, **anchor)
    values = v.double().requires_grad_()
    reference.walk(e.double(), values, steps=6, **anchor).backward(g.double())
    bound = graph.error_bound(steps=6) * v.abs().max() + 1e-4
    assert (graph.walk(v, steps=6, **anchor) - want).abs().max() <= bound
    assert (graph.walk(v.double(), steps=6, **anchor) - want).abs().max() <= bound
    x = v.clone().requires_grad_()
    graph.walk(x, steps=6, **anchor).backward(g)
    assert relative_error(x.grad, values.grad) <= 2e-3
