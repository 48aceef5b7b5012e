"""What the walk refuses, in the same words by function, compiled operator and fake kernel."""

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import rwpm_fast
from rwpm_fast.ops.backends import CHOICES


def good():
    return {"embeddings": torch.ones(5, 4), "values": torch.ones(5, 3), "mask": torch.ones(5, dtype=torch.bool)}


FLOATING = "expected dtype float32, float64, float16 or bfloat16, got "
BAD_TENSORS = {
    "embeddings of rank 1": ("embeddings", torch.ones(5), ValueError, "expected shape [N, D] or [B, N, D], got [5]"),
    "embeddings of rank 4": (
        "embeddings",
        torch.ones(1, 2, 5, 4),
        ValueError,
        "expected shape [N, D] or [B, N, D], got [1, 2, 5, 4]",
    ),
    "integer embeddings": ("embeddings", torch.ones(5, 4, dtype=torch.int64), TypeError, FLOATING + "torch.int64"),
    "complex embeddings": (
        "embeddings",
        torch.ones(5, 4, dtype=torch.complex64),
        TypeError,
        FLOATING + "torch.complex64",
    ),
    "bool values": ("values", torch.ones(5, 3, dtype=torch.bool), TypeError, FLOATING + "torch.bool"),
    "byte values": ("values", torch.ones(5, 3, dtype=torch.uint8), TypeError, FLOATING + "torch.uint8"),
    "values of rank 0": (
        "values",
        torch.ones(()),
        ValueError,
        "expected shape [5, C] to match embeddings [5, 4], got []",
    ),
    "values of rank 1": (
        "values",
        torch.ones(5),
        ValueError,
        "expected shape [5, C] to match embeddings [5, 4], got [5]",
    ),
    "values of other pixels": (
        "values",
        torch.ones(6, 3),
        ValueError,
        "expected shape [5, C] to match embeddings [5, 4], got [6, 3]",
    ),
    "values with a batch": (
        "values",
        torch.ones(1, 5, 3),
        ValueError,
        "expected shape [5, C] to match embeddings [5, 4], got [1, 5, 3]",
    ),
    "mask of other pixels": (
        "mask",
        torch.ones(4, dtype=torch.bool),
        ValueError,
        "expected shape [5] to match embeddings [5, 4], got [4]",
    ),
    "mask with channels": (
        "mask",
        torch.ones(5, 1, dtype=torch.bool),
        ValueError,
        "expected shape [5] to match embeddings [5, 4], got [5, 1]",
    ),
    "float mask": ("mask", torch.ones(5), TypeError, "expected dtype bool, got torch.float32"),
    "byte mask": ("mask", torch.ones(5, dtype=torch.uint8), TypeError, "expected dtype bool, got torch.uint8"),
}
BAD_SETTINGS = {
    "alpha below 0": ("alpha", -0.5, "expected a number in [0, 1], got -0.5"),
    "alpha above 1": ("alpha", 1.5, "expected a number in [0, 1], got 1.5"),
    "alpha just above 1": ("alpha", 1.0000001, "expected a number in [0, 1], got 1.0000001"),
    "alpha NaN": ("alpha", math.nan, "expected a number in [0, 1], got nan"),
    "steps below 0": ("steps", -1, "expected 0 or more transitions, got -1"),
    "temperature 0": ("temperature", 0, "expected a positive finite number, got 0"),
    "temperature below 0": ("temperature", -0.01, "expected a positive finite number, got -0.01"),
    "temperature NaN": ("temperature", math.nan, "expected a positive finite number, got nan"),
    "temperature infinite": ("temperature", math.inf, "expected a positive finite number, got inf"),
    "tolerance below 0": ("tolerance", -0.5, "expected a number in [0, 1), got -0.5"),
    "tolerance 1": ("tolerance", 1.0, "expected a number in [0, 1), got 1"),
    "tolerance NaN": ("tolerance", math.nan, "expected a number in [0, 1), got nan"),
}
BAD = {
    **BAD_TENSORS,
    **{name: (argument, bad, ValueError, text) for name, (argument, bad, text) in BAD_SETTINGS.items()},
}


def operator(name):
    """The operator by keyword, as the function is called; RuntimeError is what C++ can raise."""

    def call(**arguments):
        e, v, mask = (arguments.pop(key) for key in ("embeddings", "values", "mask"))
        if name == "walk":
            return torch.ops.rwpm.walk(e, v, mask, **arguments)
        return torch.ops.rwpm.walk_adjoint(v, e, mask, **arguments)

    return call


def refused(call, arguments, kind, text):
    argument, _, wanted = text.partition(": ")
    with pytest.raises(kind) as caught:
        call(**arguments)
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"{argument}: {wanted}") for line in lines), lines


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("backend", CHOICES)
def test_function_refuses(bad, backend):
    argument, value, kind, text = BAD[bad]
    refused(rwpm_fast.walk, good() | {argument: value, "backend": backend}, kind, f"{argument}: {text}")


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["walk", "walk_adjoint"])
def test_compiled_operator_refuses_with_the_same_text(bad, name):
    argument, value, _, text = BAD[bad]
    refused(operator(name), good() | {argument: value}, RuntimeError, f"{argument}: {text}")


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["walk", "walk_adjoint"])
def test_fake_kernel_refuses(bad, name):
    argument, value, kind, text = BAD[bad]
    with FakeTensorMode() as mode:
        arguments = good() | {argument: value}
        arguments = {k: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for k, x in arguments.items()}
        refused(operator(name), arguments, kind, f"{argument}: {text}")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"steps": 2.0}, "steps: expected an integer, got float"),
        ({"steps": None}, "steps: expected an integer, got NoneType"),
        ({"alpha": "0.9"}, "alpha: expected a number, got str"),
        ({"temperature": None}, "temperature: expected a number, got NoneType"),
        ({"alpha": 0.5j}, "alpha: expected a number, got complex"),
        ({"embeddings": np.ones((5, 4))}, "embeddings: expected a torch.Tensor, got ndarray; for arrays use rwpm_fast"),
        ({"values": [[1.0]] * 5}, "values: expected a torch.Tensor, got list"),
        ({"mask": [True] * 5}, "mask: expected a torch.Tensor, got list"),
    ],
    ids=lambda x: x.split(":")[0] + x.split("got")[1] if isinstance(x, str) else "",
)
def test_function_refuses_other_types(change, text):
    refused(rwpm_fast.walk, good() | change, TypeError, text)


def test_operator_refuses_steps_that_are_no_integer():
    with pytest.raises(RuntimeError, match="steps"):
        torch.ops.rwpm.walk(torch.ones(5, 4), steps=1.5)


@pytest.mark.parametrize("argument", ["values", "mask"])
def test_one_device(argument):
    arguments = good()
    arguments[argument] = arguments[argument].to("meta")
    text = f"{argument}: expected the embeddings' device cpu, got meta"
    refused(rwpm_fast.walk, arguments, ValueError, text)
    refused(operator("walk"), arguments, (ValueError, RuntimeError), text)
    refused(operator("walk_adjoint"), arguments, (ValueError, RuntimeError), text)


def test_backends_are_named():
    with pytest.raises(ValueError, match="backend: expected one of auto, cpu, triton, cuda, torch, got 'gpu'"):
        rwpm_fast.walk(**good(), backend="gpu")
    arguments = {name: x.to("meta") for name, x in good().items()}
    with pytest.raises(RuntimeError, match='backend="cpu": expected tensors on the CPU, got meta'):
        rwpm_fast.walk(**arguments, backend="cpu")
