"""Launches: wrapped for tracers alone, and seen by an observer."""

from contextlib import suppress

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rwpm_fast.ops.gpu import launch as module
from rwpm_fast.ops.gpu.launch import launch, observe_launches


class Kernel:
    """Records how often it ran, on which grids and arguments."""

    def __init__(self):
        self.ran = []

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.ran.append((grid, arguments, options))


def test_a_launch_that_runs_is_not_wrapped(monkeypatch):
    """What tracers need costs an eager walk tens of milliseconds."""
    kernel, wrapped = Kernel(), []

    def wrap(kernel):
        wrapped.append(kernel)
        return kernel

    monkeypatch.setattr(module, "INTERPRETED", False)
    monkeypatch.setattr(torch.library, "wrap_triton", wrap)
    for tensor in (torch.ones(2), torch.nn.Parameter(torch.ones(2))):
        launch(kernel, (2,), tensor, 3)
    launch(kernel, (0, 2), torch.ones(2), 3)
    assert len(kernel.ran) == 2 and not wrapped
    with FakeTensorMode():
        launch(kernel, (2,), 3, torch.ones(2))
    assert len(kernel.ran) == 3 and wrapped == [kernel]


def test_an_observer_launches_or_leaves_out():
    kernel, seen = Kernel(), []

    def run_even(launch):
        seen.append(launch.arguments)
        if launch.arguments[0] % 2 == 0:
            launch.run()

    with observe_launches(run_even):
        for number in range(4):
            launch(kernel, (8, 2), number, BM=128)
        launch(kernel, (0,), 4)  # nothing is launched, so nothing is seen
    launch(kernel, (8, 2), 5)
    assert seen == [(0,), (1,), (2,), (3,)]
    assert kernel.ran == [((8, 2), (0,), {"BM": 128}), ((8, 2), (2,), {"BM": 128}), ((8, 2), (5,), {})]


def test_an_observer_leaves_with_its_context():
    kernel, outer, inner = Kernel(), [], []
    with observe_launches(outer.append):
        with suppress(ZeroDivisionError), observe_launches(inner.append):
            launch(kernel, (1,), 1)
            raise ZeroDivisionError
        launch(kernel, (1,), 2)
    launch(kernel, (1,), 3)
    assert [[launch.arguments for launch in seen] for seen in (outer, inner)] == [[(2,)], [(1,)]]
    assert kernel.ran == [((1,), (3,), {})]
