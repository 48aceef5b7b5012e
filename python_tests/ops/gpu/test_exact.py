"""The exact walk by Triton's kernels, against the reference."""

from functools import partial

import pytest
import torch

import rwpm_fast
from python_tests.helpers import dense, manifold, relative_error
from rwpm_fast import reference
from rwpm_fast.ops.backends import TRITON
from rwpm_fast.ops.gpu.exact import exact_step, row_sums
from rwpm_fast.ops.gpu.pack import pack_graph, pack_state, unpack_state
from rwpm_fast.ops.gpu.tuning import Tile
from rwpm_fast.ops.gpu.walk import take_steps
from rwpm_fast.ops.settings import WalkSettings

# Norm-wise, of walks in float32 and in 16 bits: what is rounded there is the state of every step.
BOUND = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1.9e-3}


def exactly(e, v=None, mask=None, **settings):
    return reference.walk(e.double(), None if v is None else v.double(), mask=mask, **settings)


@pytest.fixture
def check(device):
    """Walk by Triton and compare with the reference in float64 on the same numbers."""

    def run(e, v=None, mask=None, **settings):
        embeddings, start, valid = (None if t is None else t.to(device) for t in (e, v, mask))
        got = rwpm_fast.walk(embeddings, start, mask=valid, backend="triton", **{"tolerance": 0, **settings}).cpu()
        values = e if v is None else v
        assert got.dtype == values.dtype
        assert got.is_contiguous()
        wanted = exactly(e, v, mask, **{k: x for k, x in settings.items() if k != "tolerance"})
        # A logit is the cosine over the temperature, and its rounding is the weight's relative one.
        steep = max(1.0, 0.01 / settings.get("temperature", 0.01))
        assert relative_error(got, wanted) <= BOUND[values.dtype] * steep
        return got

    return run


@pytest.mark.parametrize("pixels", [2, 3, 31, 63, 64, 65, 127, 128, 129, 250])
def test_sizes_around_tiles(check, pixels):
    check(manifold(pixels, 20), manifold(pixels, 5, seed=1), steps=3)


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 19, 64, 65, 100, 256, 259, 300, 512])
def test_embedding_channels(check, channels):
    check(manifold(70, channels), manifold(70, 4, seed=1), steps=2)


@pytest.mark.parametrize("channels", [1, 16, 19, 33, 100, 256, 259, 288, 300, 560])
def test_value_channels(check, channels):
    check(manifold(70, 20), manifold(70, channels, seed=1), steps=2)


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("channels", [19, pytest.param(259, marks=pytest.mark.slow)])
def test_dtypes(check, dtype, channels):
    check(manifold(150, channels).to(dtype), manifold(150, 19, seed=1).to(dtype), steps=20)


@pytest.mark.parametrize(
    ("of_embeddings", "of_values"), [(torch.float16, torch.float32), (torch.float32, torch.bfloat16)]
)
def test_dtypes_may_differ(check, of_embeddings, of_values):
    check(manifold(90, 40).to(of_embeddings), manifold(90, 19, seed=1).to(of_values), steps=5)


def test_walks_the_embeddings_where_no_values_are_given(check):
    check(manifold(90, 40), steps=3)


@pytest.mark.parametrize("temperature", [1e-4, 1e-3, 0.1, 1.0, 100.0])
def test_temperatures(check, temperature):
    check(manifold(140, 12, dtype=torch.float64).float(), manifold(140, 3, seed=1), temperature=temperature, steps=2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_alpha(check, alpha):
    check(manifold(90, 12), manifold(90, 3, seed=1), alpha=alpha, steps=4)


def test_batches_masks_and_strides(check):
    maps = manifold(3, 11, 7, 24).permute(0, 3, 1, 2)  # channels last
    values = manifold(3, 5, 11, 7, seed=1)
    mask = torch.rand(3, 77, generator=torch.Generator().manual_seed(0)) > 0.3
    check(maps.flatten(2).transpose(1, 2), values.flatten(2).transpose(1, 2), mask, steps=3)
    check(maps.flatten(2).transpose(1, 2)[:, ::2], None, mask[:, ::2], steps=3)


def test_pixels_that_are_not_finite_keep_their_values_and_poison_no_other(device):
    e, v = manifold(140, 20), manifold(140, 4, seed=1)
    e[3, 2], e[77, 0], v[130, 1] = torch.nan, torch.inf, -torch.inf
    mask = torch.ones(140, dtype=torch.bool)
    mask[5:60] = False
    valid = reference.valid_pixels(e, v, mask)
    settings = {"backend": "triton", "steps": 4, "tolerance": 0}
    got = rwpm_fast.walk(e.to(device), v.to(device), mask=mask.to(device), **settings).cpu()
    wanted = exactly(e, v, mask, steps=4)
    assert torch.equal(got[~valid].view(torch.int32), v[~valid].view(torch.int32))
    assert relative_error(got[valid], wanted[valid]) <= 1e-5


@pytest.mark.parametrize("alone", [0, 1])
def test_a_pixel_without_another_keeps_its_value(check, alone):
    mask = torch.arange(70) < alone
    v = manifold(70, 3, seed=1)
    assert torch.equal(check(manifold(70, 8), v, mask), v)


def test_zero_rows_and_equal_pixels(check):
    e = manifold(100, 8)
    e[10:20] = 0
    e[50:80] = e[50]
    check(e, manifold(100, 3, seed=1), steps=3)
    check(torch.ones(100, 8), manifold(100, 3, seed=1), steps=3)


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e20, 1e38])
def test_size_of_embeddings_and_values(check, size):
    # Rows shorter than 1e-12 are shorter than unit vectors after normalization.
    e = manifold(90, 6, dtype=torch.float64)
    check((e / 4 * size).float(), manifold(90, 3, seed=1, dtype=torch.float64).mul(size / 8).float(), steps=3)


def test_channels_of_different_sizes_are_as_exact_as_each_other(device):
    e, v = manifold(90, 12), manifold(90, 4, seed=1) * torch.tensor([1e-6, 1.0, 1e3, 1e6])
    got = rwpm_fast.walk(e.to(device), v.to(device), backend="triton", steps=5, tolerance=0).cpu()
    wanted = exactly(e, v, steps=5)
    for channel in range(4):
        assert relative_error(got[:, channel], wanted[:, channel]) <= 1e-5


@pytest.mark.parametrize(
    "tile",
    [
        *(pytest.param(tile, marks=pytest.mark.slow) for tile in (Tile(16, 16, 4, 1), Tile(64, 64, 4, 1))),
        *(Tile(32, 128, 4, 1), Tile(128, 32, 8, 2)),
    ],
)
def test_every_shape_of_tile(device, tile):
    e, v, mask = manifold(300, 20), manifold(300, 5, seed=1), torch.arange(300) % 9 > 0
    values = v[None].to(device)
    graph = pack_graph(e[None].to(device), mask[None].to(device), 0.01)
    start, factor = pack_state(values, graph, check=True)
    sums = row_sums(graph, None, tiles=(tile,))
    state = take_steps(graph, start, graph.per_row(0.99), 2, sums=sums, exact_step=partial(exact_step, tiles=(tile,)))
    got = unpack_state(state.to_float(), factor, graph, values)[0].cpu()
    assert relative_error(got, exactly(e, v, mask, steps=2)) <= BOUND[torch.float32]


def test_all_cosines_negative(check):
    check(torch.tensor([[1.0, 0.0], [-1.0, 1e-3]]), torch.tensor([[1.0], [2.0]]), steps=3)
    check(torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]]), torch.tensor([[1.0], [2.0], [4.0]]), steps=3)


def test_nothing_to_walk(check):
    v = manifold(50, 3, seed=1)
    assert torch.equal(check(manifold(50, 4), v, steps=0), v)
    assert check(manifold(50, 4), v[:, :0]).shape == (50, 0)
    assert check(manifold(50, 4)[:0], v[:0]).shape == (0, 3)
    assert torch.equal(check(manifold(50, 4)[:1], v[:1]), v[:1])
    assert check(manifold(50, 4)[None][:0], v[None][:0]).shape == (0, 50, 3)
    check(manifold(50, 4)[:, :0], v, steps=2)


def test_constants_stay(device):
    e, v = manifold(150, 12).to(device), torch.full((150, 2), 3.0, device=device)
    got = rwpm_fast.walk(e, v, tolerance=0, backend="triton")
    torch.testing.assert_close(got.cpu(), torch.full((150, 2), 3.0), rtol=1e-5, atol=0)


def test_adjoint(device):
    e, g = manifold(140, 20), manifold(140, 5, seed=1)
    mask = torch.arange(140) % 9 > 0
    settings = WalkSettings(alpha=0.9, steps=3)
    got = TRITON.walk(e.to(device), g.to(device), mask.to(device), settings, adjoint=True).cpu()
    S, start = dense(e, mask).T, g.double()
    wanted = start
    for _ in range(3):
        wanted = 0.9 * S @ wanted + 0.1 * start
    assert relative_error(got[mask], wanted[mask]) <= 1e-5


def test_same_bits_in_every_run(device):
    e, v = manifold(200, 40).to(device), manifold(200, 19, seed=1).to(device)
    assert torch.equal(*(rwpm_fast.walk(e, v, tolerance=0, backend="triton") for _ in range(2)))


def test_info(device):
    e = manifold(90, 12).to(device)
    mask = torch.arange(90, device=device) > 9
    _, info = rwpm_fast.walk(e, mask=mask, tolerance=0, backend="triton", return_info=True)
    assert (info.path, info.pixels, info.kept, info.dropped_mass) == ("streaming", 80, 80 * 79, 0.0)
    assert set(info.seconds) == {"pack", "build", "steps"}
    _, infos = rwpm_fast.walk(e.expand(2, -1, -1), tolerance=0, backend="triton", return_info=True)
    assert [i.pixels for i in infos] == [90, 90]
    assert rwpm_fast.walk(e, backend="triton", steps=0, return_info=True)[1].path == "none"


def test_what_cannot_be_served_is_refused(device):
    with pytest.raises(RuntimeError, match=r'backend="triton": embeddings: expected float32, .*, got torch\.float64'):
        rwpm_fast.walk(manifold(9, 3, dtype=torch.float64).to(device), backend="triton")
    with pytest.raises(RuntimeError, match="embeddings: expected up to 512 channels, got 513"):
        rwpm_fast.walk(torch.ones(9, 513, device=device), backend="triton")
