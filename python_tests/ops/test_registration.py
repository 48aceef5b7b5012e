"""The framework around the operators: opcheck, compile, export, shapes without data."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import rwpm_fast
from python_tests.helpers import manifold


def masked(x):
    return torch.arange(x[..., 0].numel()).reshape(x.shape[:-1]) % 4 > 0


VARIANTS = {
    "contiguous": lambda e, v: (e[0], v[0], None),
    "no values": lambda e, v: (e[0], None, None),
    "transposed": lambda e, v: (e[0].T.contiguous().T, v[0].T.contiguous().T, None),
    "sliced": lambda e, v: (e[0, ::2, 1:], v[0, ::2, :-1], None),
    "batched": lambda e, v: (e, v, None),
    "empty": lambda e, v: (e[0, :0], v[0, :0], None),
    "masked": lambda e, v: (e[0], v[0], masked(v[0])),
    "requires grad": lambda e, v: (e[0], v[0].clone().requires_grad_(), masked(v[0])),
    "half, requires grad": lambda e, v: (e[0].half(), v[0].bfloat16().requires_grad_(), None),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_opcheck(variant):
    e, v, mask = VARIANTS[variant](manifold(2, 12, 5), manifold(2, 12, 3, seed=1))
    torch.library.opcheck(torch.ops.rwpm.walk.default, (e, v, mask), {"steps": 2, "temperature": 0.1})
    if v is not None:
        torch.library.opcheck(torch.ops.rwpm.walk_adjoint.default, (v, e, mask), {"steps": 2, "temperature": 0.1})


@pytest.mark.parametrize("variant", VARIANTS)
def test_opcheck_with_info(variant):
    # What is traced and run again takes another time, so that no two tables are the same.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    settings = {"steps": 2, "temperature": 0.1}
    inputs = VARIANTS[variant](manifold(2, 12, 5), manifold(2, 12, 3, seed=1))
    torch.library.opcheck(torch.ops.rwpm.walk_with_info.default, inputs, settings, test_utils=checks)


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled_and_plain(walk, e, v):
    """Result and gradient of a compiled walk and of the walk itself."""
    for function in (walk, rwpm_fast.walk):
        values = v.clone().requires_grad_()
        out = function(e, values, mask=masked(v), steps=2, alpha=0.9, temperature=0.1)
        (gradient,) = torch.autograd.grad(out.square().sum(), values)
        yield out, gradient


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile(fresh_compiler, backend):
    walk = torch.compile(rwpm_fast.walk, fullgraph=True, backend=backend)
    for leading in ((20,), (2, 30), (3, 40)):
        e, v = manifold(*leading, 5), manifold(*leading, 3, seed=1)
        torch.testing.assert_close(*compiled_and_plain(walk, e, v), rtol=1e-6, atol=1e-6)


def test_compile_with_changing_settings(fresh_compiler):
    """The second value of a number makes the compiler trace it as a symbol."""
    e, v = manifold(20, 5), manifold(20, 3, seed=1)
    walk = torch.compile(rwpm_fast.walk, fullgraph=True, backend="aot_eager")
    for alpha, steps, temperature in ((0.5, 2, 0.1), (0.6, 3, 0.2), (0.7, 4, 0.3)):
        setting = {"alpha": alpha, "steps": steps, "temperature": temperature}
        torch.testing.assert_close(walk(e, v, **setting), rwpm_fast.walk(e, v, **setting))


def test_export():
    class Net(torch.nn.Module):
        def forward(self, e, v):
            return rwpm_fast.walk(e, v, steps=2)

    e, v = manifold(20, 5), manifold(20, 3, seed=1)
    pixels = torch.export.Dim("pixels", min=2, max=4096)
    exported = torch.export.export(Net(), (e, v), dynamic_shapes={"e": {0: pixels}, "v": {0: pixels}})
    assert any(node.target == torch.ops.rwpm.walk.default for node in exported.graph.nodes)
    e, v = manifold(33, 5, seed=2), manifold(33, 3, seed=3)
    assert torch.equal(exported.module()(e, v), rwpm_fast.walk(e, v, steps=2))


@pytest.mark.parametrize("mode", ["fake", "meta"])
def test_shapes_without_data(mode):
    with FakeTensorMode() if mode == "fake" else torch.device("meta"):
        e, v = torch.empty(2, 7, 5), torch.empty(2, 3, 7, dtype=torch.float16).mT
        mask = torch.empty(2, 7, dtype=torch.bool)
        for got in (torch.ops.rwpm.walk(e, v, mask), torch.ops.rwpm.walk_adjoint(v, e, mask)):
            assert got.shape == (2, 7, 3)
            assert got.dtype == torch.float16
            assert got.is_contiguous()
        assert torch.ops.rwpm.walk(e).shape == (2, 7, 5)
        assert got.device.type == ("cpu" if mode == "fake" else "meta")
