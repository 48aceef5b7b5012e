import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# Triton reads it when a kernel is defined: without a GPU its kernels run in the interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from python_tests.helpers import manifold
from rwpm_fast import native
from rwpm_fast.networks import DABNet

ISAS = native.native().build()["isa_available"] if native.unsupported_reason() is None else []


def pytest_configure():
    # The tensors here are small: where other programs share the cores, waiting for a second thread costs more than it
    # saves. What depends on the number of threads sets it.
    torch.set_num_threads(1)


@pytest.fixture
def sparse_map():
    """Embeddings [1200, 48] whose graph compiles into a sparse matrix, and values [1200, 7]."""
    return manifold(1200, 48, directions=80, noise=0.6), manifold(1200, 7, seed=1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of random weights for DABNet."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.npz"
    np.savez(path, **{name: t.numpy() for name, t in DABNet().state_dict().items()})
    return path


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    """Every instruction set that this machine has, forced one after the other."""
    monkeypatch.setenv("RWPM_ISA", request.param)
    return request.param


@pytest.fixture
def run_python(tmp_path):
    """Run code in an interpreter of its own, in an empty folder, with ``paths`` first on sys.path; its output."""

    def run(code, *, paths=(), **environment):
        path = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def package_copy(tmp_path):
    """Copy the package into a folder of its own, with or without its compiled libraries; that folder."""

    def copy(name, *, compiled):
        source, target = Path(native.__file__).parent, tmp_path / name / "rwpm_fast"
        for file in source.rglob("*"):
            if file.suffix == ".py" or (compiled and file.suffix == ".so"):
                to = target / file.relative_to(source)
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(file.read_bytes())
        return target.parent

    return copy
