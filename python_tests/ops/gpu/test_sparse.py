"""The walk with a tolerance by Triton's kernels: what is kept, what is dropped, and where rows stream instead."""

import pytest
import torch

import rwpm_fast
from python_tests.helpers import dense, error_of_largest, manifold, relative_error, road
from rwpm_fast import reference
from rwpm_fast.ops.gpu import sparse as module
from rwpm_fast.ops.gpu.pack import pack_graph, pack_state
from rwpm_fast.ops.gpu.screen import DEFAULT_CONFIG, ScreenConfig
from rwpm_fast.ops.gpu.sparse import GROUP, WEIGHT_BLOCK, build_pairs
from rwpm_fast.ops.gpu.tuning import Tile


@pytest.fixture
def sparse_walk(device):
    """Walk with a tolerance, and say what was done."""

    def run(e, v, mask=None, **settings):
        e, v, mask = (None if t is None else t.to(device) for t in (e, v, mask))
        got, info = rwpm_fast.walk(e, v, mask=mask, backend="triton", return_info=True, **settings)
        return got.cpu(), info

    return run


def matrix(e, mask, tolerance, *, has_low=True, temperature=0.01, config=DEFAULT_CONFIG):
    """The pairs kept, their weights as a matrix [N, N] in float64, and the dropped mass [N]."""
    graph = pack_graph(e[None], None if mask is None else mask[None], temperature)
    pairs = build_pairs(graph, tolerance, has_low=has_low, config=config)
    S = torch.zeros(graph.padded, graph.padded, dtype=torch.float64)
    weights = pairs.weights.to_float().double()
    for group, (begin, count) in enumerate(zip(pairs.begins.tolist(), pairs.counts.tolist(), strict=True)):
        if begin < 0:
            continue
        rows = slice(group * GROUP, (group + 1) * GROUP)
        columns = pairs.columns[begin : begin + count].long()
        assert torch.equal(columns, columns.unique())  # in order, each once
        for first in range(0, count, WEIGHT_BLOCK):
            some = columns[first : first + WEIGHT_BLOCK].cpu()
            block = weights[(begin + first) // WEIGHT_BLOCK].cpu()
            S[rows, some] = block[:, : len(some)]
            assert (block[:, len(some) :] == 0).all()
        S[rows] *= pairs.weight_factor[0, rows, None].double().cpu()
    n = len(e)
    assert (S[n:] == 0).all() and (S[:, n:] == 0).all()
    return pairs, S[:n, :n], pairs.dropped_mass[0, :n].cpu()


@pytest.mark.parametrize(
    "tolerance", [1e-4, *(pytest.param(tolerance, marks=pytest.mark.slow) for tolerance in (1e-2, 1e-6))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kept_weights_are_exact_and_dropped_mass_is_bounded(device, tolerance, dtype):
    e = road(400, 40).to(dtype)
    mask = torch.arange(400) % 11 > 0
    pairs, S, dropped = matrix(e.to(device), mask.to(device), tolerance, has_low=dtype == torch.float32)
    assert not pairs.streaming_blocks.any()
    exact = dense(e, mask)
    assert (S[~mask] == 0).all() and (S[:, ~mask] == 0).all() and (S.diagonal() == 0).all()
    S, exact, dropped = S[mask], exact[mask], dropped[mask]
    kept = S > 0
    assert 0 < kept.sum() < 0.5 * mask.sum() ** 2
    lost = exact.where(~kept, 0).sum(1)
    assert (lost <= dropped).all()
    assert (dropped <= tolerance).all()
    renormalized = exact.where(kept, 0) / exact.where(kept, 0).sum(1, keepdim=True)
    torch.testing.assert_close(S, renormalized, rtol=1e-4 if dtype == torch.float32 else 1e-3, atol=1e-9)
    torch.testing.assert_close(S.sum(1), torch.ones(len(S), dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("pixels", [2, 63, 64, 65, 129, 300])
@pytest.mark.parametrize("value_channels", [3, *(pytest.param(c, marks=pytest.mark.slow) for c in (19, 259))])
def test_walk_stays_within_its_certificate(sparse_walk, pixels, value_channels):
    e = manifold(pixels, 24, directions=pixels // 3 + 1, noise=0.3)
    v = manifold(pixels, value_channels, seed=1)
    got, info = sparse_walk(e, v, tolerance=1e-4, steps=10)
    wanted = reference.walk(e.double(), v.double(), steps=10)
    assert info.dropped_mass <= 1e-4
    assert error_of_largest(got, wanted, v) <= 2 * 10 * info.dropped_mass + 1e-5


def test_a_tolerance_pays_on_a_sparse_graph(sparse_walk):
    _, info = sparse_walk(road(500, 24), manifold(500, 3, seed=1), tolerance=1e-3, steps=2)
    assert info.path == "sparse"
    assert info.kept < 0.45 * 500**2
    assert info.pixels == 500


@pytest.mark.parametrize("temperature", [1e-3, 3e-4, 1e-4, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_low_temperatures(sparse_walk, temperature, dtype):
    """Where rounding to float16 changes weights by factors, they are made exactly all the same, or rows stream."""
    e, v = road(200, 24).to(dtype), manifold(200, 3, seed=1)
    got, info = sparse_walk(e, v, tolerance=1e-5, steps=3, temperature=temperature)
    wanted = reference.walk(e.double(), v.double(), steps=3, temperature=temperature)
    assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-7 / temperature
    assert temperature > 1e-5 or dtype == torch.float16 or info.path == "streaming"


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_a_dense_graph_streams(sparse_walk, temperature):
    e, v = manifold(200, 24), manifold(200, 3, seed=1)
    got, info = sparse_walk(e, v, tolerance=1e-4, steps=3, temperature=temperature)
    assert info.path == "streaming"
    assert (info.kept, info.dropped_mass) == (200 * 199, 0.0)
    assert relative_error(got, reference.walk(e.double(), v.double(), steps=3, temperature=temperature)) <= 1e-5


def test_rows_that_find_no_room_stream(sparse_walk, monkeypatch):
    e, v = road(400, 24), manifold(400, 5, seed=1)
    wanted = reference.walk(e.double(), v.double(), steps=4)
    for bytes_, path in ((2**29, "sparse"), (4 * GROUP * 3 * WEIGHT_BLOCK, "mixed"), (0, "streaming")):
        monkeypatch.setattr(module, "device_memory", lambda device, bytes_=bytes_: 4 * bytes_)
        got, info = sparse_walk(e, v, tolerance=1e-5, steps=4)
        assert info.path == path
        assert relative_error(got, wanted) <= 2e-5


def test_a_device_that_is_full_gives_less_room(device, monkeypatch):
    graph, asked, empty = pack_graph(road(400, 24)[None].to(device), None, 0.01), [], module.HalfPair.empty

    def full(*shape, **facts):
        asked.append(shape[0])
        if shape[0] > 5:
            raise torch.OutOfMemoryError("full")
        return empty(*shape, **facts)

    monkeypatch.setattr(module.HalfPair, "empty", full)
    pairs = build_pairs(graph, 1e-5, has_low=True)
    assert asked[0] > 10 and asked[-1] <= 5 and asked == sorted(asked, reverse=True)
    assert 0 < int(pairs.streaming_blocks.sum()) < pairs.streaming_blocks.numel()
    monkeypatch.setattr(module.HalfPair, "empty", lambda *shape, **facts: full(6))
    with pytest.raises(torch.OutOfMemoryError):
        build_pairs(graph, 1e-5, has_low=True)


@pytest.mark.slow
def test_rows_that_drop_too_much_go_through_another_pass(device):
    e = road(300, 24, noise=0.6)
    streaming = {}
    for passes in (0, 1, 3):
        # The first threshold is far too high, and no block streams for another reason.
        config = ScreenConfig(min_kept=0.1, keep_fraction=0.0, max_density=1.0, passes=passes)
        pairs, S, dropped = matrix(e.to(device), None, 1e-5, temperature=0.03, config=config)
        streaming[passes] = int(pairs.streaming_blocks.sum())
        listed = (S > 0).any(1)
        lost = dense(e, temperature=0.03).where(S == 0, 0).sum(1)
        assert (lost[listed] <= 1e-5).all() and (dropped[listed] <= 1e-5).all()
    assert streaming[0] > streaming[3] == 0


@pytest.mark.parametrize(
    "tile",
    [
        *(pytest.param(tile, marks=pytest.mark.slow) for tile in (Tile(64, 32, 4, 1), Tile(64, 128, 4, 1))),
        Tile(128, 64, 4, 1),
    ],
)
def test_every_shape_of_tile_finds_the_same_pairs(device, tile):
    e = road(300, 24).to(device)
    expected = matrix(e, None, 1e-4)[1] > 0
    # A pair that no row needed yet when its tile was computed may be kept in one order and not in another.
    _, S, dropped = matrix(e, None, 1e-4, config=ScreenConfig(select_tiles=(tile,)))
    assert (dropped <= 1e-4).all()
    assert ((S > 0) != expected).sum() < 0.05 * expected.sum()


@pytest.mark.parametrize("parts", [1, 2])
def test_maps_go_by_patches(device, parts):
    e = road(20 * 27, 24).T.unflatten(1, (20, 27))[None].to(device)
    v = manifold(20 * 27, 3, seed=1).T.unflatten(1, (20, 27))[None].to(device)
    mask = torch.rand(1, 20, 27, generator=torch.Generator().manual_seed(0)).to(device) > 0.1
    settings = {"parts": parts, "mask": mask, "steps": 3}
    got = rwpm_fast.walk_map(e, v, **settings, tolerance=1e-5, backend="triton")
    wanted = rwpm_fast.walk_map(e.double(), v.double(), **settings, backend="torch")
    assert error_of_largest(got, wanted, v) <= 2 * 3 * 1e-5 + 1e-5


def test_pixels_in_no_order(sparse_walk):
    e, v = manifold(400, 24, directions=100, noise=0.3), manifold(400, 3, seed=1)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    got, info = sparse_walk(e[order], v[order], tolerance=1e-4, steps=3)
    wanted = reference.walk(e.double(), v.double(), steps=3)[order]
    assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-5


def test_odd_frames(sparse_walk):
    v = manifold(150, 3, seed=1)
    constant = torch.ones(150, 8)
    zeros = manifold(150, 8, directions=40)
    zeros[20:90] = 0
    masked = torch.arange(150) < 1
    for e, mask in ((constant, None), (zeros, None), (zeros, masked), (zeros, masked & False)):
        got, info = sparse_walk(e, v, mask, tolerance=1e-3, steps=3)
        wanted = reference.walk(e.double(), v.double(), mask=mask, steps=3)
        assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-5


@pytest.mark.slow
def test_batch_entries_share_the_room_and_nothing_else(device):
    e = manifold(3, 150, 24, directions=50).to(device)
    v = manifold(3, 150, 5, seed=1).to(device)
    mask = torch.arange(450, device=device).view(3, 150) % 7 > 0
    together = rwpm_fast.walk(e, v, mask=mask, backend="triton", tolerance=1e-3, steps=3)
    for b in range(3):
        alone = rwpm_fast.walk(e[b], v[b], mask=mask[b], backend="triton", tolerance=1e-3, steps=3)
        assert torch.equal(together[b], alone)


@pytest.mark.slow
def test_same_bits_in_every_run(device):
    e, v = road(300, 40).to(device), manifold(300, 19, seed=1).to(device)
    assert torch.equal(*(rwpm_fast.walk(e, v, backend="triton", tolerance=1e-3) for _ in range(2)))


def test_a_value_that_is_no_number_leaves_the_graph(device, sparse_walk):
    e, v = manifold(200, 24, directions=60), manifold(200, 3, seed=1)
    v[77, 1] = torch.nan
    got, info = sparse_walk(e, v, tolerance=1e-4, steps=3)
    others = torch.arange(200) != 77
    wanted = reference.walk(e[others].double(), v[others].double(), steps=3)
    assert error_of_largest(got[others], wanted, v[others]) <= 2 * 3 * info.dropped_mass + 1e-5
    assert torch.equal(got[77].isnan(), v[77].isnan())
    graph = pack_graph(e[None].to(device), None, 0.01)
    pack_state(v[None].to(device), graph, check=True)
    assert graph.valid[0, :200].cpu().bool().equal(others)
