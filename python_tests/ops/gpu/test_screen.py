"""Screening of every pair once, by half of the tiles, which finds what comparing all tiles would; and later passes."""

import math
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

import rwpm_fast
from python_tests.helpers import error_of_largest, manifold, road
from rwpm_fast import reference
from rwpm_fast.ops.gpu.kernels import screen as kernels
from rwpm_fast.ops.gpu.op import walk_with_stats
from rwpm_fast.ops.gpu.pack import pack_graph
from rwpm_fast.ops.gpu.screen import DEFAULT_CONFIG, GROUP, ScreenConfig, screen_once, screen_pairs
from rwpm_fast.ops.gpu.tuning import Tile

SCREEN_THRESHOLD, KEEP_THRESHOLD = 2e-5, 1e-4
TOLERANCE = 0.5  # only the unit of the fixed point that drops are counted in: so large that rounding to it shows


def screened(e, mask, tile, config):
    graph = pack_graph(e, mask, 0.05)
    # As if cosines were further off, in each image by something else: at high temperatures the true margins are so
    # small that their absence would not show.
    graph.quant_error *= torch.tensor([20.0, 40.0], device=e.device)
    return graph, screen_once(graph, tile, TOLERANCE, SCREEN_THRESHOLD, KEEP_THRESHOLD, config)


def logits(graph):
    """[B, padded, padded] in float64, of all pairs; and the same with -inf where they are not two valid pixels."""
    q = graph.keys.high.double() * graph.inv_norm.double()[..., None]
    valid = graph.valid != 0
    live = valid[:, :, None] & valid[:, None] & ~torch.eye(graph.padded, dtype=torch.bool, device=q.device)
    every = (q @ q.mT) * graph.scale
    return every, torch.where(live, every, -torch.inf)


def near(x, rows, window):
    """Log2 of rows' sums over their tile of ``rows`` pixels and those in the window around it, [B, padded]."""
    tile = torch.arange(x.shape[1], device=x.device) // rows * rows
    key = torch.arange(x.shape[1], device=x.device)
    inside = (key[None] >= tile[:, None] - window) & (key[None] < tile[:, None] + rows + window)
    return torch.where(inside, x, -torch.inf).mul(math.log(2)).logsumexp(-1) / math.log(2)


def columns(bits):
    """Words [B, groups, words] as [B, groups, 32 * words] bool."""
    bit = torch.arange(32, dtype=torch.int32, device=bits.device)
    return ((bits[..., None] >> bit) & 1).flatten(2) != 0


@pytest.mark.parametrize(
    "pixels",  # 1 to 5 tiles of 128, 2 to 10 of 64
    [2, 129, *(pytest.param(pixels, marks=pytest.mark.slow) for pixels in (100, 385, 600))],
)
@pytest.mark.parametrize(("side", "wide"), [(64, 64), (128, 64), (128, 128)])
@pytest.mark.parametrize(("tiles_per_program", "window"), [(1, 64), (2, 0), (64, 128)])
def test_finds_what_comparing_all_tiles_finds(device, pixels, side, wide, tiles_per_program, window):
    config = ScreenConfig(
        tiles_per_program=tiles_per_program, window=window, max_density=1.0, row_sum_tiles=(Tile(64, 64, 4, 1),)
    )
    e = torch.stack([road(pixels, 24, seed=seed) for seed in (0, 3)]).to(device)
    mask = torch.arange(2 * pixels, device=device).view(2, pixels) % 13 > 0
    graph, found = screened(e, mask, Tile(side, wide, 4, 1), config)
    (every, x), margin = logits(graph), 2 * graph.scale * graph.quant_error.double()[:, None, None]
    bound = (near(x, 64, window)[..., None] - margin).nan_to_num(neginf=torch.inf)  # [B, padded, 1]
    known = found.dropped_mass.isfinite() & (graph.valid != 0)
    assert known.sum() > 0.9 * mask.sum() or pixels < 64
    share = (x - bound).exp2()

    def selected(slack):
        return (share >= (1 + slack) * KEEP_THRESHOLD * (-margin).exp2()).unflatten(1, (-1, GROUP)).any(2)

    got = columns(found.bits)
    assert (got | ~selected(1e-3)).all()
    assert (~got | selected(-1e-3)).all()
    assert torch.equal(found.counts.long(), got.sum(2))
    kept = got.repeat_interleave(GROUP, 1)

    def dropped_in(slack, of):
        """What rows drop in subtiles that hold a share to look for, with their margin. The order of tiles says whose
        rows and whose columns a subtile is of: counted are those of one and (or) of the other."""
        found_by_row = (every - bound).exp2() >= (1 + slack) * SCREEN_THRESHOLD * (-margin).exp2()
        subtiles = (found_by_row | found_by_row.mT).unflatten(2, (-1, wide)).unflatten(1, (-1, side)).any(4).any(2)
        subtiles = subtiles.repeat_interleave(side, 1).repeat_interleave(wide, 2)
        computed = of(subtiles, subtiles.mT)
        return (torch.where(computed & ~kept, share, 0).sum(2, keepdim=True) * margin.exp2())[..., 0][known]

    rounded = (2 * graph.padded // side) / kernels.UNITS_PER_TOLERANCE.value * TOLERANCE * margin.max().exp2()
    dropped = found.dropped_mass[known].double()
    assert (
        dropped >= (dropped_in(1e-3, torch.logical_and) * (1 - 1e-4) + pixels * SCREEN_THRESHOLD) * (1 - 1e-6)
    ).all()
    assert (
        dropped <= (dropped_in(-1e-3, torch.logical_or) * (1 + 1e-4) + pixels * SCREEN_THRESHOLD) * (1 + 1e-6) + rounded
    ).all()
    largest = torch.where(kept, x, -torch.inf).amax(2)
    some = largest > -torch.inf
    above = (found.max_logit_bound - margin[..., 0])[some]
    assert (above >= largest[some] - 1e-4).all()
    assert (above <= x.amax(2)[some] + 1e-4).all()


def test_a_later_pass_allows_for_its_margins(device):
    config = ScreenConfig(screen_tiles=(), passes=1)
    graph = pack_graph(road(400, 10)[None].to(device), None, 0.05)
    graph.quant_error *= 30
    found = screen_pairs(graph, 1e-2, config)
    screen_threshold, keep_threshold = config.thresholds(400, 1e-2)
    x, margin = logits(graph)[1][:, :400], 2 * graph.scale * graph.quant_error.item()
    share = (x * math.log(2)).softmax(2)
    kept = columns(found.bits).repeat_interleave(GROUP, 1)[:, :400]
    assert (kept | (share < keep_threshold * 2**-margin * (1 + 1e-3))).all()
    # Others may have been looked for, next to these.
    looked_for = share >= screen_threshold * 2**-margin * (1 + 1e-3)
    unscreened = 400 * screen_threshold
    least, most = (torch.where(some & ~kept, share, 0).sum(2) * 4**margin + unscreened for some in (looked_for, ~kept))
    assert (least > unscreened).any()
    dropped, largest = found.dropped_mass[:, :400], found.max_logit_bound[:, :400]
    assert (dropped >= least * (1 - 1e-5)).all() and (dropped <= most * (1 + 1e-5)).all()
    assert ((largest - margin - x.amax(2)).abs() < 1e-4).all()


@pytest.mark.parametrize("tiles", [(), (Tile(64, 64, 4, 1),), (Tile(128, 128, 8, 1),)])
def test_a_walk_is_the_same_without_it(device, tiles):
    e, v = road(600, 24).to(device), manifold(600, 3, seed=1).to(device)
    got, stats = walk_with_stats(
        e, v, None, alpha=0.99, temperature=0.01, tolerance=1e-4, steps=3, config=ScreenConfig(screen_tiles=tiles),
        on_phase=lambda phase: None,
    )  # fmt: skip
    assert stats["path"] == "sparse" and stats["dropped_mass"] <= 1e-4
    wanted = reference.walk(e.double(), v.double(), steps=3)
    assert error_of_largest(got, wanted, v) <= 2 * 3 * stats["dropped_mass"] + 1e-5


def test_rows_with_nothing_near_go_through_another_pass(device):
    e, v = road(640, 24).to(device), manifold(640, 3, seed=1).to(device)
    mask = torch.arange(640, device=device) >= 500
    mask[5] = True  # alone among the first 500
    got, info = rwpm_fast.walk(e, v, mask=mask, tolerance=1e-4, steps=3, backend="triton", return_info=True)
    wanted = reference.walk(e.double(), v.double(), mask=mask, steps=3)
    assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-5


@pytest.mark.slow
def test_rows_with_far_too_small_bounds_go_through_another_pass(device):
    """Most pixels resemble those beyond their own 16 pixels, over which sums are bounded: all others seem to matter."""
    config = ScreenConfig(window=0, row_sum_tiles=(Tile(16, 16, 4, 1),))
    pixel = torch.arange(256)
    kind = pixel // GROUP * 16 + pixel % 16
    e = manifold(64, 200, directions=4096, noise=0)[kind] + 0.01 * manifold(256, 200, seed=2)
    e = torch.cat([e, road(64, 200, seed=1)])  # and these have good bounds
    graph = pack_graph(e[None].to(device), None, 0.05)
    first = screen_pairs(graph, 1e-2, replace(config, passes=0))
    last = screen_pairs(graph, 1e-2, replace(config, passes=3))
    assert first.dropped_mass[:, :256].isinf().all() and (first.counts[:, :4] > 200).all()
    assert first.dropped_mass[:, 256:].isfinite().all()
    assert (last.dropped_mass <= 1e-2).all() and (last.counts <= 128).all()


@pytest.mark.parametrize("pixels", [2, 100, 3999, 4000, 10**5, 10**7])
@pytest.mark.parametrize("tolerance", [1e-9, 1e-3, 0.5])
def test_float32_holds_whatever_a_row_drops_in_fixed_point(pixels, tolerance):
    """All pixels for a share just too small to be kept, and the sum of every 64 rounded up."""
    _, keep_threshold = DEFAULT_CONFIG.thresholds(pixels, tolerance)
    assert pixels * keep_threshold / tolerance * kernels.UNITS_PER_TOLERANCE.value + pixels / 64 < 2**24


@triton.jit
def order(numbers, to, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    tl.store(to + at, kernels.float_to_ordered_int(tl.load(numbers + at)))


def test_integers_keep_the_order_of_numbers(device):
    x = torch.tensor([-torch.inf, -3e38, -1.0, -1e-40, 0.0, 1e-40, 1.0, 144.27], device=device)
    ordered = torch.empty(8, dtype=torch.int32, device=device)
    order[(1,)](x, ordered, COUNT=8)
    assert torch.equal(ordered, ordered.sort().values)
    assert torch.equal(kernels.ordered_int_to_float(ordered)[1:], x[1:])
    none = torch.tensor([torch.iinfo(torch.int32).min], dtype=torch.int32)
    assert kernels.ordered_int_to_float(none).isposinf().all() and kernels.ordered_int_to_float(ordered)[0].isposinf()
