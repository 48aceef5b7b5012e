import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

# Triton reads it when a kernel is defined: without a GPU its kernels run in the interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from rwpm_fast import native, reference
from rwpm_fast.networks import DABNet

ISAS = native.native().build()["isa_available"] if native.unavailable() is None else []


def pytest_configure():
    # The tensors here are small: where other programs share the cores, waiting for a second thread costs more than it
    # saves. What depends on the number of threads sets it.
    torch.set_num_threads(1)


def _manifold(*shape, directions=5, noise=0.3, seed=0, dtype=torch.float32):
    *pixels, channels = shape
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(directions, channels, generator=generator, dtype=torch.float64)
    belongs = torch.randint(directions, pixels, generator=generator)
    scatter = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return (centres[belongs] + noise * scatter).to(dtype)


def _relative_error(got, expected):
    got, expected = (torch.as_tensor(x).double() for x in (got, expected))
    assert got.shape == expected.shape
    size = expected.norm().item()
    return (got - expected).norm().item() / (size if size > 0 else 1)


def _gaps(e):
    """Embeddings [N, D] of which some are broken, and a mask with a hole."""
    e = e.clone()
    e[3, 0], e[7, 5] = torch.nan, torch.inf
    mask = torch.ones(len(e), dtype=torch.bool)
    mask[500:600] = False
    return e, mask


def _dense(e, mask=None, temperature=0.01):
    valid = reference.valid_pixels(e, None, mask).nonzero().squeeze(-1)
    S = torch.eye(len(e), dtype=torch.float64)
    S[valid] = 0
    S[valid[:, None], valid] = reference.transition(e[valid].double(), temperature=temperature)
    return S


class _Page(HTMLParser):
    """Checks that tags are balanced and the page needs nothing else, and gathers what it shows, loads and names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        assert html.startswith("<!DOCTYPE html>")
        assert not re.search(r"https?://|@import|url\(", html)
        assert not {"script", "link", "iframe"} & set(self.tags)
        assert all(source.startswith(("data:image/", "#")) for source in self.sources)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in {"meta", "img", "br", "hr", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="session")
def manifold():
    """Make embeddings [..., N, D] on a few directions with noise, so that rows have near and far pixels."""
    return _manifold


@pytest.fixture(scope="session")
def relative_error():
    """Norm-wise relative error; absolute where nothing but zeros is expected."""
    return _relative_error


@pytest.fixture(scope="session")
def error_of_largest():
    """Largest error beside the largest value: what certificates bound."""
    return lambda got, expected, values: ((got.double() - expected).abs().max() / values.abs().max()).item()


@pytest.fixture
def sparse_map(manifold):
    """Embeddings [1200, 48] whose graph compiles into a sparse matrix, and values [1200, 7]."""
    return manifold(1200, 48, directions=80, noise=0.6), manifold(1200, 7, seed=1)


@pytest.fixture(scope="session")
def gaps():
    """Break some of given embeddings [N > 600, D] and make a mask with a hole; both."""
    return _gaps


@pytest.fixture(scope="session")
def dense():
    """S [N, N] in float64 of embeddings and mask; pixels that are no part of the graph have rows of the identity."""
    return _dense


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


@pytest.fixture(scope="session")
def read_page():
    """Parse a page; fails where it is not well-formed or needs anything else."""
    return _Page


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
