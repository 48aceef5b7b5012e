"""The backends: one interface, and one way through the files from the public function to the kernels."""

import sys
from itertools import groupby
from pathlib import Path

import pytest
import torch

import rwpm_fast
from python_tests.helpers import manifold
from rwpm_fast import baselines
from rwpm_fast.ops import library, registration
from rwpm_fast.ops.backends import BACKENDS, CHOICES, CPU, EAGER, TRITON, check_backend, choose_backend
from rwpm_fast.ops.settings import WalkSettings

PACKAGE = str(Path(rwpm_fast.__file__).parent)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
METHODS = ("unsupported_reason", "walk", "walk_with_info", "build_matrix")


def test_every_backend_is_found_by_its_name():
    assert list(BACKENDS) == ["cpu", "triton", "cuda", "torch"]
    assert ("auto", *BACKENDS) == CHOICES
    for name, backend in BACKENDS.items():
        assert backend.name == name
        assert all(callable(getattr(backend, method)) for method in METHODS)
        check_backend(name)
    with pytest.raises(ValueError, match="backend: expected one of auto, cpu, triton, cuda, torch, got 'gpu'"):
        check_backend("gpu")


def test_auto_takes_plain_torch_where_no_kernel_serves(monkeypatch):
    e = manifold(9, 4)
    assert choose_backend(e) is CPU
    assert choose_backend(e.to("meta")) is EAGER
    monkeypatch.setattr(library, "unsupported_reason", lambda: "it is not built")
    assert choose_backend(e) is EAGER
    assert CPU.unsupported_reason(e, None) == "the compiled library is out of use: it is not built"


def test_triton_that_cannot_be_imported(monkeypatch):
    reason = "No module named 'triton'; install Triton: pip install triton"
    monkeypatch.setattr("rwpm_fast.ops.backends.load_triton", lambda: (None, reason))
    e = manifold(9, 4)
    for name in ("triton", "cuda"):
        assert BACKENDS[name].unsupported_reason(e, None) == reason
        with pytest.raises(RuntimeError, match=f'backend="{name}": No module named'):
            rwpm_fast.walk(e, backend=name)
    with pytest.raises(RuntimeError, match="install Triton"):
        TRITON.walk(e, None, None, WalkSettings(steps=1))


def revisited(call):
    """Files of the package that a call leaves and comes back to further down its stack, by call stack."""
    stacks = set()

    def record(frame, event, argument):
        if event != "call" or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        files = []
        while frame is not None:
            if (name := frame.f_code.co_filename).startswith(PACKAGE):
                files.append(name.removeprefix(PACKAGE))
            frame = frame.f_back
        stacks.add(tuple(file for file, _ in groupby(reversed(files))))

    before = sys.getprofile()
    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(before)
    assert stacks
    return [stack for stack in stacks if len(set(stack)) < len(stack)]


@pytest.mark.parametrize("backend", ["auto", "cpu", "torch", "triton"])
@pytest.mark.parametrize("tolerance", [0.0, 1e-3], ids=["exact", "sparse"])
def test_a_walk_passes_no_file_twice(backend, tolerance):
    device = DEVICE if backend == "triton" else "cpu"
    e, v, mask = manifold(2, 70, 6).to(device), manifold(2, 70, 3, seed=1).to(device), torch.ones(2, 70) > 0
    if backend == "triton" and (reason := TRITON.unsupported_reason(e, v)) is not None:
        pytest.skip(reason)
    settings = {"mask": mask.to(device), "steps": 2, "tolerance": tolerance, "backend": backend}
    assert not revisited(lambda: rwpm_fast.walk(e, v, **settings))
    assert not revisited(lambda: rwpm_fast.walk(e, v, **settings, return_info=True))


def test_a_map_passes_no_file_twice():
    e, mask = manifold(1, 6, 8, 10), torch.ones(1, 8, 10) > 0
    assert not revisited(lambda: rwpm_fast.Walk(steps=2, parts=2)(e, mask=mask))


def test_a_gradient_passes_no_file_twice():
    e, v = manifold(40, 5), manifold(40, 2, seed=1).requires_grad_()
    assert not revisited(lambda: rwpm_fast.walk(e, v, steps=2).sum().backward())


def test_the_kernel_for_gpus_passes_no_file_twice():
    if (reason := TRITON.unsupported_reason(manifold(9, 4).to(DEVICE), None)) is not None:
        pytest.skip(reason)
    e, v = manifold(70, 6).to(DEVICE), manifold(70, 3, seed=1).to(DEVICE)
    assert not revisited(lambda: registration._walk_gpu(e, v, steps=2))
    assert not revisited(lambda: registration._walk_adjoint_gpu(v, e, steps=2))


def test_a_file_that_is_passed_twice_is_seen():
    walk = baselines.KnnWalk(3, steps=1)  # baselines -> maps -> baselines
    assert revisited(lambda: walk(manifold(1, 6, 8, 10)))
