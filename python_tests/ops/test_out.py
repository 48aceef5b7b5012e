"""A walk into a tensor that is given, and the memory that walks keep."""

import threading

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import rwpm_fast
from python_tests.helpers import manifold
from rwpm_fast.ops import library

compiled = pytest.mark.skipif(library.unsupported_reason() is not None, reason="the compiled library")
BACKENDS = [pytest.param("cpu", marks=compiled), "torch", "auto"]


def unwritten(values, dtype=None):
    return torch.full(values.shape, torch.nan, dtype=dtype or values.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("leading", [(30,), (2, 20), (0,)])
def test_equals_the_walk(leading, dtype):
    e, v = manifold(*leading, 5), manifold(*leading, 3, seed=1).to(dtype)
    mask = torch.arange(v[..., 0].numel()).reshape(leading) % 4 > 0
    out = unwritten(v)
    assert rwpm_fast.walk(e, v, mask=mask, steps=3, out=out) is out
    assert torch.equal(out, rwpm_fast.walk(e, v, mask=mask, steps=3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_door(backend):
    e, v = manifold(40, 5), manifold(40, 6, seed=1)[:, ::2]
    expected, wanted = rwpm_fast.walk(e, v, steps=2, backend=backend, return_info=True)
    for info in (False, True):
        out = unwritten(v)
        got = rwpm_fast.walk(e, v, steps=2, backend=backend, return_info=info, out=out)
        assert (got[0] if info else got) is out
        assert torch.equal(out, expected)
        assert not info or got[1].kept == wanted.kept


def test_the_embeddings_walk_themselves(sparse_map):
    e, _ = sparse_map
    out = torch.empty_like(e)
    assert torch.equal(rwpm_fast.walk(e, tolerance=1e-4, out=out), rwpm_fast.walk(e, tolerance=1e-4))
    assert torch.equal(torch.ops.rwpm.walk.out(e, tolerance=1e-4, out=out), rwpm_fast.walk(e, tolerance=1e-4))


E, V = torch.ones(5, 4), torch.ones(7, 3)[:5]
REFUSED = {
    "shape": (torch.ones(4, 3), ValueError, "out: expected shape [5, 3] of the values, got [4, 3]"),
    "dtype": (torch.ones(5, 3).double(), TypeError, "out: expected the values' dtype torch.float32, got torch.float64"),
    "strides": (torch.ones(3, 5).T, ValueError, "out: expected a contiguous tensor"),
    "values": (V, ValueError, "out: expected memory of its own, got some of an input's"),
    "part of the values": (V._base.view(-1)[6:21].view(5, 3), ValueError, "out: expected memory of its own"),
    "embeddings": (E.view(-1)[:15].view(5, 3), ValueError, "out: expected memory of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_in_the_same_words(case):
    out, kind, message = REFUSED[case]
    before = out.clone()
    for backend in ("auto", "torch"):
        with pytest.raises(kind) as refused:
            rwpm_fast.walk(E, V, out=out, backend=backend)
        assert str(refused.value).startswith(message)
    with pytest.raises((kind, RuntimeError)) as refused:
        torch.ops.rwpm.walk.out(E, V, out=out)
    assert str(refused.value).startswith(message)
    assert torch.equal(out, before)
    with FakeTensorMode() as mode:  # fake tensors overlap in nothing
        e, v, fake = (mode.from_tensor(t) for t in (E, V, out))
        if "memory" in message:
            assert torch.ops.rwpm.walk.out(e, v, out=fake) is fake
        else:
            with pytest.raises(kind, match="out: expected"):
                torch.ops.rwpm.walk.out(e, v, out=fake)


def test_refuses_gradients():
    e, v = torch.ones(5, 4), torch.ones(5, 3, requires_grad=True)
    for values, out in ((v, torch.empty(5, 3)), (v.detach(), torch.empty(5, 3, requires_grad=True))):
        with pytest.raises(NotImplementedError, match="out: gives no gradient; leave it out, or walk under"):
            rwpm_fast.walk(e, values, out=out)
    with torch.no_grad():
        assert rwpm_fast.walk(e, v, out=torch.empty(5, 3)).shape == (5, 3)
    with pytest.raises(TypeError, match=r"out: expected a torch\.Tensor, got list"):
        rwpm_fast.walk(e, v, out=[])


@pytest.mark.parametrize("leading", [(12,), (2, 12), (0,)])
def test_opcheck(leading):
    e, v = manifold(*leading, 5), manifold(*leading, 3, seed=1)
    options = {"steps": 2, "temperature": 0.1, "out": torch.empty_like(v)}
    torch.library.opcheck(torch.ops.rwpm.walk.out, (e, v), options)


@pytest.mark.parametrize("walk", [rwpm_fast.walk, torch.ops.rwpm.walk.out], ids=["function", "operator"])
def test_compile_and_export(walk):
    class Net(torch.nn.Module):
        def forward(self, e, v, out):
            return walk(e * 2, v, steps=2, out=out)

    torch._dynamo.reset()
    e, v = manifold(20, 5), manifold(20, 3, seed=1)
    exported = torch.export.export(Net(), (e, v, torch.empty(20, 3)))
    assert exported.run_decompositions().graph_signature.user_inputs_to_mutate == {"copy": "out"}
    expected = rwpm_fast.walk(e * 2, v, steps=2)
    for run in (exported.module(), torch.compile(Net(), fullgraph=True, backend="aot_eager")):
        out = unwritten(v)
        assert run(e, v, out).data_ptr() == out.data_ptr()
        assert torch.equal(out, expected)
    torch._dynamo.reset()


def test_without_the_library(run_python, package_copy):
    code = """
import torch, rwpm_fast
e, v = torch.randn(30, 5), torch.randn(30, 3)
out = torch.empty(30, 3)
assert rwpm_fast.walk(e, v, out=out) is out
assert torch.equal(out, rwpm_fast.walk(e, v))
with rwpm_fast.Workspace() as workspace:
    rwpm_fast.walk(e, v, out=out)
    assert workspace.bytes == 0
"""
    run_python(code, paths=[package_copy("bare", compiled=False)], PYTHONWARNINGS="ignore")


# Memory that is kept


@compiled
def test_workspace(sparse_map):
    e, v = sparse_map
    out, expected = torch.empty_like(v), rwpm_fast.walk(e, v, tolerance=1e-4)
    with rwpm_fast.Workspace() as workspace:
        assert workspace.bytes == 0
        rwpm_fast.walk(e, v, tolerance=1e-4, out=out)
        held = workspace.bytes
        assert held > e.nbytes
        assert torch.equal(out, expected)
        for frame in range(3):
            rwpm_fast.walk(e.roll(frame, 0), v, tolerance=1e-4, out=out)
        assert workspace.bytes <= 1.25 * held
        graph = rwpm_fast.transition(e)  # it does not live in the workspace
    assert workspace.bytes == 0
    assert torch.equal(graph.walk(v), expected)
    workspace.close()
    assert repr(workspace) == "Workspace(0 bytes)"


@compiled
def test_workspaces_are_one():
    e, v = manifold(600, 8), manifold(600, 3, seed=1)
    first, second = rwpm_fast.Workspace(), rwpm_fast.Workspace()
    rwpm_fast.walk(e, v)
    held = second.bytes
    assert first.bytes == held > 0
    del first
    assert second.bytes == held
    second.close()
    with rwpm_fast.Workspace() as third:
        assert third.bytes == 0


@compiled
def test_a_workspace_is_closed_during_walks():
    e, v = manifold(600, 8), manifold(600, 3, seed=1)
    expected, different = rwpm_fast.walk(e, v), []

    def walk_on():
        for _ in range(20):
            different.append(not torch.equal(rwpm_fast.walk(e, v), expected))

    threads = [threading.Thread(target=walk_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with rwpm_fast.Workspace():
            pass
    assert len(different) == 40 and not any(different)


@compiled
def test_the_library_is_of_this_version(monkeypatch):
    assert library.functions().rwpm_op_abi() == library.OP_ABI
    monkeypatch.setattr(library, "OP_ABI", 2)
    library.unsupported_reason.cache_clear()
    for _ in range(2):
        with pytest.raises(
            ImportError, match=r"librwpm_ops.so: expected the operators' ABI 2, got 1: the library is of"
        ):
            library.unsupported_reason()
    with pytest.raises(ImportError, match="got before 1: the library is of another version"):
        library._check_abi(object())
    monkeypatch.undo()
    assert library.unsupported_reason() is None
