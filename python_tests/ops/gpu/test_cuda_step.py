"""The exact step in CUDA C++, against Triton's on the same packed numbers, and against the reference."""

import pytest
import torch

from rwpm_fast import reference
from rwpm_fast.ops.gpu import cuda_step

pytest.importorskip("triton", reason="Triton is not installed: pip install rwpm-fast[gpu]")

from python_tests.helpers import manifold, relative_error
from rwpm_fast.ops.gpu import exact as by_triton
from rwpm_fast.ops.gpu.pack import HalfPair, pack_graph, pack_state, unpack_state

BLOCK = 128
OWN_KERNELS = ("ampere", "hopper", "hopper_pair")


def pack(e, v, mask=None, temperature=0.05):
    graph = pack_graph(e, mask, temperature)
    start, factor = pack_state(v, graph, check=True)
    return graph, start, factor


def test_says_why_it_is_unavailable():
    graph, start, _ = pack(manifold(20, 8).half()[None], manifold(20, 3).half()[None])
    reason = cuda_step.unsupported_reason(graph, start)
    assert reason == f"expected tensors on a GPU, got {graph.keys.high.device}"
    with pytest.raises(ValueError, match=r"^kernel: expected one of auto, .*, got 'volta'$"):
        cuda_step.unsupported_reason(graph, start, "volta")
    if torch.version.cuda is None:
        assert "torch with CUDA" in cuda_step._load()


@pytest.fixture(scope="module")
def serves():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if (reason := cuda_step._load()) is not None:
        pytest.skip(reason)


@pytest.fixture
def check(serves):
    """One step by a kernel and by Triton from the same state, which is not the start, into memory that holds NaN."""

    def run(kernel, e, v, mask=None, *, alpha=0.9, adjoint=False, streaming_blocks=None, temperature=0.05):
        e, v, mask = (None if t is None else t.cuda() for t in (e.half(), v.half(), mask))
        graph, start, _ = pack(e, v, mask, temperature)
        if (reason := cuda_step.unsupported_reason(graph, start, kernel)) is not None:
            pytest.skip(reason)
        sums = by_triton.row_sums(graph, None)
        source = HalfPair(start.high.flip(2).contiguous(), None)
        results = []
        for step in (by_triton.exact_step, lambda *inputs: cuda_step.exact_step(*inputs, kernel=kernel)):
            target = HalfPair(torch.full_like(start.high, torch.nan), None)
            step(graph, sums, streaming_blocks, start, source, target, graph.per_row(alpha), adjoint)
            results.append(target.high)
        torch.cuda.synchronize()
        wanted, got = results
        streamed = torch.ones_like(wanted[..., 0], dtype=torch.bool)
        if streaming_blocks is not None:
            streamed = (streaming_blocks != 0).repeat_interleave(BLOCK, 1)
        assert got[~streamed].isnan().all()
        assert got[streamed].isfinite().all()
        # A logit is the cosine over the temperature, and its rounding is the weight's relative one.
        assert relative_error(got[streamed].cpu(), wanted[streamed].cpu()) <= 1e-3 * max(1, 0.01 / temperature)
        return got

    return run


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("pixels", [2, 63, 64, 65, 79, 80, 81, 127, 128, 129, 161, 256, 257, 400, 1000])
def test_sizes_around_tiles(check, kernel, pixels):
    check(kernel, manifold(1, pixels, 20), manifold(1, pixels, 5, seed=1))


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("channels", [1, 17, 33, 64, 65, 100, 128, 129, 256, 259, 288, 300, 512])
def test_embedding_channels(check, kernel, channels):
    check(kernel, manifold(1, 300, channels), manifold(1, 300, 19, seed=1))


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("values", [1, 19, 32, 33, 64, 65, 100, 128, 200, 256, 259, 288, 300, 560])
@pytest.mark.parametrize("channels", [64, 128, 256, 259])
def test_value_channels(check, kernel, channels, values):
    check(kernel, manifold(1, 300, channels), manifold(1, 300, values, seed=1))


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("values", [19, 64, 100, 256, 259])
def test_adjoint_batches_and_masks(check, kernel, values):
    mask = torch.rand(3, 333, generator=torch.Generator().manual_seed(0)) > 0.3
    mask[1, 2:] = False
    for adjoint in (False, True):
        check(kernel, manifold(3, 333, 259), manifold(3, 333, values, seed=1), mask, adjoint=adjoint)


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_blocks_that_do_not_stream_are_left_alone(check, kernel, every):
    streaming_blocks = (torch.arange(2 * 7) % every == every - 1).view(2, 7).to(torch.int8).cuda()
    e, v = (manifold(2, 7 * BLOCK - 5, 256, seed=seed) for seed in (0, 1))
    check(kernel, e, v, streaming_blocks=streaming_blocks)


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("temperature", [1e-3, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_temperatures_and_alpha(check, kernel, temperature, alpha):
    check(kernel, manifold(1, 400, 64), manifold(1, 400, 19, seed=1), alpha=alpha, temperature=temperature)


@pytest.mark.parametrize("kernel", OWN_KERNELS)
def test_many_tiles_again_and_again(check, kernel):
    inputs = manifold(1, 6000, 256), manifold(1, 6000, 256, seed=1)
    first = check(kernel, *inputs)
    for _ in range(5):
        assert torch.equal(check(kernel, *inputs), first)


@pytest.mark.parametrize("kernel", OWN_KERNELS)
def test_walk_matches_the_reference(serves, kernel):
    e, v = manifold(2, 500, 259).half().cuda(), manifold(2, 500, 19, seed=1).half().cuda()
    graph, start, factor = pack(e, v)
    sums, state = by_triton.row_sums(graph, None), start
    if (reason := cuda_step.unsupported_reason(graph, start, kernel)) is not None:
        pytest.skip(reason)
    for _ in range(4):
        target = HalfPair(torch.full_like(start.high, torch.nan), None)
        cuda_step.exact_step(graph, sums, None, start, state, target, graph.per_row(0.9), False, kernel=kernel)
        state = target
    got = unpack_state(state.to_float(), factor, graph, v)
    wanted = reference.walk(e.double(), v.double(), alpha=0.9, steps=4, temperature=0.05)
    assert relative_error(got.cpu(), wanted.cpu()) <= 1e-3


def test_runs_on_the_current_stream_and_in_a_graph(serves):
    e, v = manifold(1, 700, 256).half().cuda(), manifold(1, 700, 64, seed=1).half().cuda()
    graph, start, _ = pack(e, v)
    sums = by_triton.row_sums(graph, None)
    target, replayed = (HalfPair(torch.full_like(start.high, torch.nan), None) for _ in range(2))
    cuda_step.exact_step(graph, sums, None, start, start, target, graph.per_row(0.9), False)
    torch.cuda.synchronize()
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        cuda_step.exact_step(graph, sums, None, start, start, replayed, graph.per_row(0.9), False)
    assert replayed.high.isnan().all()
    recorded.replay()
    torch.cuda.synchronize()
    assert torch.equal(replayed.high, target.high)


def test_wrong_tensors_are_told(serves):
    graph, start, _ = pack(manifold(1, 200, 64).half().cuda(), manifold(1, 200, 19, seed=1).half().cuda())
    sums = by_triton.row_sums(graph, None)
    short = HalfPair(start.high[:, :128].contiguous(), None)
    with pytest.raises(RuntimeError, match=r"target: expected shape \[1, 256, 32\], got \[1, 128, 32\]"):
        cuda_step.exact_step(graph, sums, None, start, start, short, graph.per_row(0.9), False)
    with pytest.raises(RuntimeError, match=r"source: expected dtype torch.float16, got torch.float32"):
        cuda_step.exact_step(
            graph, sums, None, start, HalfPair(start.high.float(), None), start, graph.per_row(0.9), False
        )
