"""float32 by Triton under every spelling of torch's TF32 switch, each in a process of its own."""

from pathlib import Path

import pytest

SPELLINGS = {
    "matmul": "torch.backends.cuda.matmul.fp32_precision = '{}'",
    "all": "torch.backends.fp32_precision = '{}'",
    "mkldnn": "torch.backends.mkldnn.fp32_precision = '{}'",
    "cudnn": "torch.backends.cudnn.fp32_precision = '{}'",
}
OLD = {
    "tf32": ["torch.set_float32_matmul_precision('high')", "torch.backends.cuda.matmul.allow_tf32 = True"],
    "ieee": ["torch.set_float32_matmul_precision('highest')", "torch.backends.cuda.matmul.allow_tf32 = False"],
}
WALKS = """
import torch
import rwpm_fast
from python_tests.helpers import manifold, relative_error
from rwpm_fast import reference

e, v = manifold(70, 12), manifold(70, 3, seed=1)
wanted = reference.walk(e.double(), v.double(), steps=3)
if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    raise SystemExit(0)
{}
for tolerance in (0.0, 1e-4):
    got = rwpm_fast.walk(e, v, steps=3, tolerance=tolerance, backend="triton")
    print(relative_error(got, wanted), got.double().sum().item())
"""


def results(run_python, line):
    out = run_python(WALKS.format(line), paths=[Path(__file__).parents[3]], TRITON_INTERPRET="1")
    if not out:
        pytest.skip("this torch knows allow_tf32 only")
    return [[float(x) for x in row.split()] for row in out.splitlines()]


@pytest.mark.slow
def test_all_spellings_of_tf32_are_one(run_python):
    lines = [line.format("tf32") for line in SPELLINGS.values()] + OLD["tf32"]
    first, *others = (results(run_python, line) for line in lines)
    assert all(other == first for other in others)
    assert first[0][0] > 1e-5  # one half of float32, as the caller allowed


IEEE = [
    pytest.param(line.format("ieee"), id=name, marks=() if name == "matmul" else pytest.mark.slow)
    for name, line in SPELLINGS.items()
]


@pytest.mark.parametrize("line", [*IEEE, *(pytest.param(line, marks=pytest.mark.slow) for line in OLD["ieee"])])
def test_ieee_is_exact(run_python, line):
    (exact, _), (within, _) = results(run_python, line)
    assert exact <= 1e-5
    assert within <= 1e-3
