"""``torch.ops.rwpm.walk_triton``, and how ``rwpm_fast.walk`` comes to call it."""

import pytest
import torch

import rwpm_fast
from python_tests.helpers import manifold, relative_error
from rwpm_fast.ops.backends import TRITON
from rwpm_fast.ops.settings import WalkSettings

# Needs no GPU: nothing runs. In a separate process, since interpreted kernels cannot be traced.
TRACED = """
import torch
import rwpm_fast
from rwpm_fast.ops.backends import TRITON
from torch._dynamo.backends.common import aot_autograd

e = torch.randn(1, 300, 40)
assert "expected tensors on a GPU, got cpu" in TRITON.unsupported_reason(e, None)

class Walk(torch.nn.Module):
    def forward(self, e):
        return torch.ops.rwpm.walk_triton(e, None, None, 0.9, 3, 0.01, 1e-3, False)

exported = torch.export.export(Walk(), (e,))
assert [n.target for n in exported.graph.nodes if n.op == "call_function"] == [torch.ops.rwpm.walk_triton.default]
assert torch.ops.rwpm.walk_triton(e.to("meta")).shape == e.shape

graphs = []
def keep(graph, inputs):
    graphs.append(graph)
    return graph

try:
    torch.compile(Walk(), backend=aot_autograd(fw_compiler=keep), fullgraph=True)(e)
except RuntimeError as error:  # running it would need a GPU
    assert "active drivers" in str(error), error
launches = [n for n in graphs[0].graph.nodes if "triton_kernel" in str(n.target)]
# Three to pack, sums over windows and screening, three passes of selection, lists, weights, sums, each step two.
assert len(launches) == 3 + 2 + 3 + 2 + 1 + 2 * 3, len(launches)
print("traced")
"""


def test_compilers_see_the_launches(run_python):
    assert "traced" in run_python(TRACED, TRITON_INTERPRET="0")


def test_schema(device):
    e, v = manifold(2, 70, 12).to(device), manifold(2, 70, 3, seed=1).to(device)
    TRITON.unsupported_reason(e, v)  # registers it
    torch.library.opcheck(torch.ops.rwpm.walk_triton.default, (e, v, None, 0.9, 2), test_utils="test_schema")
    walked = torch.ops.rwpm.walk_triton(e, v, None, 0.9, 2)
    assert torch.equal(walked, rwpm_fast.walk(e, v, alpha=0.9, steps=2, tolerance=0, backend="triton"))
    assert torch.equal(walked[0], torch.ops.rwpm.walk_triton(e[0], v[0], None, 0.9, 2))


def test_no_autocast(device):
    """Autocast changes no dtype: the walk runs in what it is given."""
    e, v = manifold(70, 12).to(device), manifold(70, 3, seed=1).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        got = rwpm_fast.walk(e, v, tolerance=0, backend="triton")
        dispatched = torch.ops.rwpm.walk(e, v)
    assert got.dtype == dispatched.dtype == torch.float32
    assert torch.equal(got, rwpm_fast.walk(e, v, tolerance=0, backend="triton"))


@pytest.mark.parametrize("tolerance", [0, 1e-3])
def test_gradients(device, tolerance):
    """The backend's own, through autograd."""
    e, v = (manifold(70, c, seed=c).to(device).requires_grad_(True) for c in (12, 3))
    g = manifold(70, 3, seed=2).to(device)
    settings = WalkSettings(steps=2, tolerance=tolerance)
    walked = rwpm_fast.walk(e, v, steps=2, tolerance=tolerance, backend="triton")
    got = torch.autograd.grad(walked, (e, v), g)
    wanted = TRITON.gradients(g, e.detach(), v.detach(), None, settings)
    assert all(map(torch.equal, got, wanted[:2]))
    (alone,) = torch.autograd.grad(rwpm_fast.walk(e.detach(), v, steps=2, tolerance=tolerance, backend="triton"), v, g)
    assert relative_error(alone, wanted.values) <= 1e-5


def test_cuda_says_why_it_cannot_serve(device):
    reason = (
        "expected tensors on a GPU, got cpu" if device.type == "cpu" else "expected float16 or bfloat16, got torch.f"
    )
    with pytest.raises(RuntimeError, match=f'backend="cuda": .*{reason}'):
        rwpm_fast.walk(manifold(70, 12).to(device), backend="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnTheGpu:
    def test_the_operator_dispatches(self):
        e, v = manifold(300, 40).cuda(), manifold(300, 19, seed=1).cuda().requires_grad_(True)
        got = torch.ops.rwpm.walk(e, v)
        assert torch.equal(got, rwpm_fast.walk(e, v.detach(), tolerance=0, backend="triton"))
        got.sum().backward()
        there = v.detach().cpu().double().requires_grad_(True)
        torch.ops.rwpm.walk(e.cpu().double(), there).sum().backward()
        assert relative_error(v.grad.cpu(), there.grad) <= 1e-5

    @pytest.mark.parametrize("tolerance", [0.0, 1e-3])
    def test_nothing_waits_and_a_graph_replays(self, tolerance):
        e, v = manifold(300, 40).cuda(), manifold(300, 19, seed=1).cuda()
        others = manifold(300, 40, seed=2).cuda(), manifold(300, 19, seed=3).cuda()
        expected = [rwpm_fast.walk(*pair, tolerance=tolerance) for pair in ((e, v), others)]
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            rwpm_fast.walk(e, v, tolerance=tolerance)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph, out = torch.cuda.CUDAGraph(), torch.empty_like(v)
        with torch.cuda.graph(graph):
            got = rwpm_fast.walk(e, v, tolerance=tolerance, out=out)
        for pair, wanted in zip(((e.clone(), v.clone()), others), expected, strict=True):
            e.copy_(pair[0])
            v.copy_(pair[1])
            graph.replay()
            assert torch.equal(got, wanted)

    def test_a_stream_of_its_own(self):
        e = manifold(500, 40).cuda()
        expected = rwpm_fast.walk(e)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            got = rwpm_fast.walk(e)
        stream.synchronize()
        assert torch.equal(got, expected)

    def test_compiles(self):
        e = manifold(300, 40).cuda()
        walk = torch.compile(lambda e: torch.ops.rwpm.walk_triton(e) * 2, fullgraph=True)
        torch.testing.assert_close(walk(e), rwpm_fast.walk(e, tolerance=0) * 2)
