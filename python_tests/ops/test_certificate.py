"""The certificate of the sparse walk on random graphs: what a row drops, and how far a walk is off, is never more.

A case is drawn from its seed alone, and walked with every instruction set of this machine.
"""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import rwpm_fast
from python_tests.conftest import ISAS
from python_tests.helpers import dense, error_of_largest, manifold
from rwpm_fast import reference
from rwpm_fast.ops.graph import Transition

# Around a matrix's fewest pixels, and around whole panels of 8, 24 and 48 pixels and blocks of 384.
SIZES = [512, 513, 527, 528, 529, 552, 575, 576, 577, 601, 647, 720, 767, 768, 769, 817]
LARGE_SIZES = [1151, 1152, 1153, 1537, 2047, 2048, 2049, 2200, 2305, 2497, 3000]
CHANNELS = [1, 2, 3, 8, 13, 16, 24, 31, 32, 33, 40, 48, 64, 79]
MANY_CHANNELS = [95, 96, 97, 128, 192, 259, 300]


def smooth_map(rng, pixels, channels):
    """A field that changes slowly along the rows and columns of a map, with a little noise."""
    width = int(rng.integers(16, 49))
    height = -(-pixels // width)
    coarse = torch.from_numpy(rng.standard_normal((1, channels, 2 + height // 8, 2 + width // 8)))
    field = F.interpolate(coarse, (height, width), mode="bilinear").flatten(2)[0].T[:pixels]
    return field + rng.uniform(0.01, 0.3) * torch.from_numpy(rng.standard_normal((pixels, channels)))


def shuffled_map(rng, pixels, channels):
    return smooth_map(rng, pixels, channels)[rng.permutation(pixels)]


def clusters(rng, pixels, channels):
    noise, seed = rng.uniform(0.02, 1), int(rng.integers(2**31))
    return manifold(pixels, channels, directions=int(rng.integers(2, 150)), noise=noise, seed=seed, dtype=torch.float64)


def isotropic(rng, pixels, channels):
    return torch.from_numpy(rng.standard_normal((pixels, channels)))


def nearly_identical(rng, pixels, channels):
    noise = rng.choice([1e-4, 1e-2, 0.2, 0.5])
    return isotropic(rng, 1, channels) + noise * isotropic(rng, pixels, channels)


def outliers(rng, pixels, channels):
    e = clusters(rng, pixels, channels)
    few = rng.choice(pixels, 9, replace=False)
    e[few[:6]] = isotropic(rng, 6, channels)
    e[few[6:]] = -e.mean(0)
    return e


def duplicates(rng, pixels, channels):
    distinct = int(rng.integers(20, 200))
    return isotropic(rng, distinct, channels)[rng.integers(0, distinct, pixels)]


def low_rank(rng, pixels, channels):
    rank = int(rng.integers(2, 13))
    plane = smooth_map(rng, pixels, rank) @ isotropic(rng, rank, channels)
    return plane / rank**0.5 + rng.uniform(0.01, 0.1) * isotropic(rng, pixels, channels)


KINDS = [smooth_map, shuffled_map, clusters, isotropic, nearly_identical, outliers, duplicates, low_rank]


@dataclass
class Case:
    """Embeddings, values and settings of one walk."""

    embeddings: torch.Tensor  # [N, D]
    values: torch.Tensor  # [N, C]
    mask: torch.Tensor | None  # [N]
    graph: dict  # settings of the graph
    walk: dict  # settings of the walk, without those of the anchor
    anchor: dict
    kind: str

    def __str__(self):
        shape = "x".join(map(str, [*self.embeddings.shape, self.values.shape[1]]))
        return f"{self.kind} {shape}{' masked' * (self.mask is not None)} {self.graph} {self.walk} {self.anchor}"


def draw(seed):
    rng = np.random.default_rng(seed)
    large = rng.random() < 0.04
    pixels = int(rng.choice(LARGE_SIZES if large else SIZES))
    channels = int(rng.choice(MANY_CHANNELS if rng.random() < (0.7 if large else 0.1) else CHANNELS))
    kind = low_rank if large and rng.random() < 0.4 else KINDS[rng.integers(len(KINDS))]
    e = kind(rng, pixels, channels)
    if rng.random() < 0.25:
        e *= 10 ** torch.from_numpy(rng.uniform(-7, 7, (pixels, 1)))
        e[rng.integers(pixels, size=3)] *= torch.tensor([[0], [1e-25], [1e25]])
    e = e.float()
    if rng.random() < 0.15:
        e[rng.integers(pixels, size=5), rng.integers(channels, size=5)] = float(rng.choice([math.nan, math.inf]))
    mask = None
    if rng.random() < 0.2:
        mask = torch.from_numpy(rng.random(pixels) < rng.choice([0.5, 0.9, 0.99]))
    values = torch.from_numpy(rng.standard_normal((pixels, int(rng.choice([1, 2, 3, 7, 16, 17, 40])))))
    anchor = [{}, {"anchor": float(rng.uniform(0.3, 1))}, {"anchor_share": float(rng.uniform(0.001, 0.5))}]
    return Case(
        e,
        (values * 10 ** rng.uniform(-4, 4)).float(),
        mask,
        graph={
            "temperature": float(10 ** rng.uniform(*(-2.5, -1.3) if rng.random() < 0.85 else (-1.3, 0))),
            "tolerance": float(10 ** rng.uniform(-6, -1)),
        },
        walk={"alpha": float(rng.choice([0.5, 0.9, 0.99, 1.0, rng.uniform(0.5, 1)])), "steps": int(41 ** rng.random())},
        anchor=anchor[rng.choice(3, p=[0.7, 0.15, 0.15])],
        kind=kind.__name__,
    )


UNIT = 2.0**-24  # relative rounding of float32


def weight_rounding(channels, graph, isa):
    """Relative error of a weight: that of its logit, a cosine over the temperature.

    A cosine rounds once for every channel, by at most UNIT of a partial sum that is at most 1. These roundings are as
    good as independent, spread evenly, and add up like a random walk, here to six standard deviations. Beside them
    stand those of the two unit embeddings, of the scale and of the logarithm of the row's sum.

    AMX makes a cosine of bfloat16 parts where three standard deviations of that change no weight by more than the
    tolerance.
    """
    parts = 9.3e-6 / math.sqrt(channels) / graph["temperature"]
    in_parts = isa == "amx" and parts <= graph["tolerance"]
    return (6 * math.sqrt(channels / 3) + 4) * UNIT / graph["temperature"] + in_parts * 2 * parts


def largest_drop(graph, rounding):
    """What each row may have dropped, [N], where both a dropped weight and the row's sum are off by ``rounding``.

    Kernels take weights below 2^-100 of the row's largest as zero.
    """
    return graph.dropped_mass.double() * math.exp(2 * rounding) + graph.pixels * 2.0**-100


class Exact:
    """The graph of a case in float64, and the case's values walked on it."""

    def __init__(self, case):
        e, tau = case.embeddings, case.graph["temperature"]
        self.case = case
        self.inside = reference.valid_pixels(e, None, case.mask)
        self.S = dense(e, case.mask, tau)
        self.own_weight = torch.zeros(len(e), 1, dtype=torch.float64)
        own_weight = reference.own_weights(e[self.inside].double(), **case.anchor, temperature=tau)
        self.own_weight[self.inside, 0] = own_weight
        self.walked = self.walk(case.values)

    def walk(self, values):
        start = m = values.double()
        continuing = self.case.walk["alpha"] * (1 - self.own_weight)
        for _ in range(self.case.walk["steps"]):
            m = continuing * (self.S @ m) + (1 - continuing) * start
        return m


def violations(exact, graph, isa):
    """What a graph promises of a case and does not hold, in words."""
    case, inside = exact.case, exact.inside
    rounding = weight_rounding(case.embeddings.shape[1], case.graph, isa)
    broken = []

    def hold(what, value, limit):
        if not value <= limit:
            broken.append(f"{what}: {value:.9g} > {limit:.9g}")

    S = graph.to_csr().to_dense().double()
    # Equal weights round the same way each time they are added. A row adds more than it keeps: what it trims later.
    sum_error = len(S) * UNIT
    hold("row sum less 1", (S.sum(1) - 1).abs().max(), sum_error)

    dropped = torch.where(S == 0, exact.S, 0).sum(1)
    limit = largest_drop(graph, rounding)
    row = (dropped - limit).argmax()
    hold(f"dropped mass of row {row}", dropped[row], limit[row])
    hold("dropped mass", graph.dropped_mass.max(), case.graph["tolerance"])
    if graph.path == "streaming":
        hold("certificate of a graph that streams", graph.dropped_mass.max(), 0)

    # The values that show most of what a row drops: one sign for what it keeps, and the other for the rest.
    row = dropped.argmax()
    hardest = torch.where(S[row, :, None] > 0, 1.0, -1.0).float()
    # Weights off by a relative error move an average by at most as much of the largest value. Two sums round: that of
    # the weights, and that of weights times values.
    steps = math.fsum(case.walk["alpha"] ** t for t in range(1, case.walk["steps"] + 1))
    limit = graph.error_bound(**case.walk) + (rounding + 2 * sum_error) * steps
    for name, values, walked in (("values", case.values, exact.walked), ("hardest", hardest, exact.walk(hardest))):
        got = graph.walk(values, **case.walk, **case.anchor)
        hold(f"error of {name}", error_of_largest(got[inside], walked[inside], values[inside]), limit)
    return broken


def each_graph(seeds):
    """(what repeats it, exact graph, graph, instruction set) of every case with every instruction set."""
    for seed in seeds:
        exact = Exact(draw(seed))
        case = exact.case
        for isa in ISAS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RWPM_ISA", isa)
                graph = rwpm_fast.transition(case.embeddings, mask=case.mask, **case.graph)
                yield f"check([{seed}]) with {isa}: {case}", exact, graph, isa


def check(seeds):
    """Fail at the first case that breaks a promise; return how many graphs were sparse and how many streamed."""
    paths = Counter()
    for name, exact, graph, isa in each_graph(seeds):
        broken = violations(exact, graph, isa)
        assert not broken, "\n".join([name, *broken])
        paths[graph.path] += 1
    return paths["sparse"], paths["streaming"]


def batches(first, last, size, **marks):
    return [pytest.param(range(k, k + size), id=f"{k}-{k + size - 1}", **marks) for k in range(first, last, size)]


@pytest.mark.parametrize("seeds", batches(0, 60, 20) + batches(60, 2000, 97, marks=pytest.mark.slow))
def test_error_never_passes_the_certificate(seeds):
    sparse, streaming = check(seeds)
    # Neither path may become so rare that nothing is tested.
    assert sparse >= 0.4 * len(seeds) * len(ISAS)
    assert streaming >= 0.1 * len(seeds) * len(ISAS)


def test_a_certificate_too_small_is_found(monkeypatch):
    """A hundredth of a certificate is seen to be wrong: by the rows, and by the walk where float32 does not hide it."""
    bound = Transition.error_bound
    sparse = by_rows = by_walk = 0
    for _, exact, graph, isa in each_graph(range(20)):
        if graph.path == "streaming":
            continue
        sparse += 1
        with monkeypatch.context() as patch:
            patch.setattr(Transition, "error_bound", lambda *a, **k: bound(*a, **k) / 100)
            by_walk += any("error" in what for what in violations(exact, graph, isa))
        graph.dropped_mass /= 100
        by_rows += any("dropped mass of row" in what for what in violations(exact, graph, isa))
    assert by_rows >= 0.8 * sparse
    assert by_walk >= 0.15 * sparse


@pytest.mark.slow
def test_rows_of_a_map_that_bytes_screen_by_leading_channels(isa):
    """The 8-bit format screens by leading channels from 8192 pixels on; a sample of rows shows what all drop."""
    pixels, channels, settings = 8241, 128, {"temperature": 0.01, "tolerance": 1e-3}
    e = low_rank(np.random.default_rng(0), pixels, channels).float()
    graph = rwpm_fast.transition(e, **settings)
    assert graph.path == "sparse"
    assert graph.dropped_mass.max() <= settings["tolerance"]
    limit = largest_drop(graph, weight_rounding(channels, settings, isa))
    q, S = F.normalize(e.double(), dim=1), graph.to_csr()
    for row in range(0, pixels, 37):
        logits = q @ q[row] / settings["temperature"]
        logits[row] = -math.inf
        exact = logits.softmax(0)
        exact[S.col_indices()[S.crow_indices()[row] : S.crow_indices()[row + 1]].long()] = 0
        assert exact.sum() <= limit[row], row
