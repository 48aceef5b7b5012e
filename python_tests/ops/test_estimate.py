"""What a walk is expected to take: the model that chooses the path, scaled to the machine."""

import pytest
import torch

import rwpm_fast
from python_tests.helpers import manifold, road
from rwpm_fast import native
from rwpm_fast.ops import estimate
from rwpm_fast.ops.settings import WalkSettings

CPU = torch.device("cpu")
SHAPE = (90, 160), 259, 19


@pytest.fixture
def machine(monkeypatch):
    """The machine of the model."""
    monkeypatch.setattr(estimate, "seconds_a_unit", lambda *_: 1.0)


def seconds(**settings):
    return [found.seconds for found in estimate.estimate_walk(*SHAPE, WalkSettings(**settings), CPU)]


def test_exact_and_tolerant(machine):
    pixel, streaming, filter, stored, max_density = native.native().walk_costs(14_400, 259, 19, 20)
    pack, pairs = 14_400 * pixel, 14_400**2
    assert seconds() == pytest.approx([pack + pairs * streaming] * 2)
    sparse = filter + estimate.SPARSE_DENSITY * stored
    assert seconds(tolerance=1e-4) == pytest.approx([pack + pairs * sparse, pack + pairs * (filter + streaming)])
    assert 0 < max_density <= 0.5
    assert seconds(steps=0, tolerance=1e-4) == [0, 0]
    assert seconds(steps=40)[0] > seconds()[0]
    assert seconds(parts=2)[0] < seconds()[0] / 3


def test_paths_and_memory(machine):
    least, most = estimate.estimate_walk(*SHAPE, WalkSettings(tolerance=1e-4), CPU)
    assert (least.path, most.path) == ("sparse", "streaming")
    assert least.bytes < most.bytes <= 2**30 + estimate.state_bytes(14_400, 259, 19)
    exact, same = estimate.estimate_walk(*SHAPE, WalkSettings(), CPU)
    assert exact == same and exact.bytes == estimate.state_bytes(14_400, 259, 19) + 256 * 2**20
    few, _ = estimate.estimate_walk((20, 20), 8, 3, WalkSettings(tolerance=1e-4), CPU)
    assert few.path == "streaming"


def test_without_the_compiled_kernels_operations_are_counted(monkeypatch, machine):
    monkeypatch.setattr(native, "unsupported_reason", lambda: "not built")
    assert seconds()[0] == pytest.approx(estimate.exact_flops(14_400, 259, 19, 20))
    assert seconds(tolerance=1e-4)[0] < seconds()[0]


def test_this_machine_is_measured_once():
    first = estimate.seconds_a_unit(CPU, torch.get_num_threads())
    assert first > 0 and estimate.seconds_a_unit(CPU, torch.get_num_threads()) == first


@pytest.mark.parametrize(("steps", "path"), [(1, "streaming"), (40, "sparse")])
def test_the_walk_takes_the_path_of_the_model(steps, path):
    """A graph of a density between those that one step and forty pay for."""
    e, v = road(1600, 64, run=240, noise=0.02), manifold(1600, 2, seed=1)
    kept = rwpm_fast.transition(e, tolerance=1e-4).kept_per_row.double().mean() / 1600
    density = estimate.walk_costs(1600, 64, 2, steps, CPU).max_density
    assert (kept < density) == (path == "sparse")
    _, info = rwpm_fast.walk(e, v, steps=steps, tolerance=1e-4, return_info=True)
    assert info.path == path
