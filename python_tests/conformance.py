"""Golden files: found by pattern, and described by themselves or by the README of their folder.

A kind is a folder of such files. ``RWPM_CONFORMANCE`` names the folder of all kinds; a small set of one kind is part of
these tests (``python_tests/golden``). No test knows the name of a file, so that other files of the same kind run too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from python_tests.places import CONFORMANCE

OWN = Path(__file__).with_name("golden")


def golden_files(kind: str, holding: str = "") -> list[Path]:
    """Files of a kind in ``RWPM_CONFORMANCE`` with an array whose name begins like that."""
    found = []
    for path in sorted((CONFORMANCE / kind).glob("*.npz")):
        with np.load(path) as file:
            if any(name.startswith(holding) for name in file.files):
                found.append(path)
    return found


def missing(kind: str) -> pytest.MarkDecorator:
    """Skip, since there is no file of a kind in ``RWPM_CONFORMANCE``."""
    folder = CONFORMANCE / kind
    return pytest.mark.skip(reason=f"no conformance files in {folder}; set RWPM_CONFORMANCE to their root")


def golden(kind: str, holding: str = "", *, own: bool = False) -> pytest.MarkDecorator:
    """Parametrize ``path`` over every file of a kind, with those of the golden set of these tests if ``own``."""
    mine = [pytest.param(path, id=f"golden-{path.stem}") for path in sorted((OWN / kind).glob("*.npz")) if own]
    files = [pytest.param(path, id=path.stem) for path in golden_files(kind, holding)]
    return pytest.mark.parametrize("path", mine + (files or [pytest.param(None, marks=missing(kind), id="absent")]))


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    with np.load(path) as file:
        return dict(file)


def readme(kind: str) -> str:
    """What the README of a kind, or that of all kinds, says of a kind."""
    own = CONFORMANCE / kind / "README.md"
    if own.is_file():
        return own.read_text()
    found = re.search(rf"^## {kind}\b.*?(?=^## |\Z)", (CONFORMANCE / "README.md").read_text(), re.M | re.S)
    assert found, f"the README of {CONFORMANCE} has no section {kind}"
    return found[0]


def random_normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """``rnd(seed, shape)`` of the README."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def network_input(path: Path) -> torch.Tensor:
    """The input of a case: as stored, or drawn as its row ``| file | rnd(seed,(shape)) |`` of the README says."""
    arrays = load(path)
    if "input" in arrays:
        return torch.from_numpy(arrays["input"])
    row = re.search(rf"^\| *{re.escape(path.stem)} *\| *rnd\((\d+), *\(([\d, ]+)\)\)", readme(path.parent.name), re.M)
    assert row, f"{path.name} holds no input, and no row of the README says how to draw it"
    x = random_normal(int(row[1]), tuple(map(int, row[2].split(","))))
    np.testing.assert_array_equal(x.ravel()[:8], arrays["input_first8"])
    total = next(arrays[name] for name in ("input_abs_sum", "input_sum_abs") if name in arrays)
    np.testing.assert_allclose(np.abs(x.astype(np.float64)).sum(), total, rtol=1e-12)
    return torch.from_numpy(x)


def scale_of(path: Path, quantity: str, wanted: np.ndarray | torch.Tensor, case: str | None = None) -> dict[str, float]:
    """``max_abs`` and ``spatial_std`` as tabulated, or of the stored array where the table has no such entry."""
    table = CONFORMANCE / "numeric_scale.json"
    cases = json.loads(table.read_text()) if table.is_file() else {}
    if entry := cases.get(path.parent.name, {}).get(case or path.stem, {}).get(quantity):
        return entry
    wanted = torch.as_tensor(wanted).double()
    spread = wanted - wanted.mean((-2, -1), keepdim=True)
    return {"max_abs": wanted.abs().max().item(), "spatial_std": spread.square().mean().sqrt().item()}
