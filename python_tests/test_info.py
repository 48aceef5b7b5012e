"""What ``rwpm-fast info`` says of GPUs: the kernels in which the walk runs there."""

import pytest
import torch

from rwpm_fast import info
from rwpm_fast.ops import backends


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that torch has CUDA and finds a GPU."""
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")


def test_gpus_walk_in_triton_where_it_is_there(gpu, monkeypatch):
    monkeypatch.setattr(backends, "load_triton", lambda: (object(), None))
    assert info.info()["cuda"] == "12.9: NVIDIA H100; the walk runs there in Triton's kernels"


def test_gpus_walk_in_plain_torch_where_triton_is_not_there(gpu, monkeypatch):
    reason = "No module named 'triton'; install Triton: pip install triton"
    monkeypatch.setattr(backends, "load_triton", lambda: (None, reason))
    assert info.info()["cuda"] == f"12.9: NVIDIA H100; the walk runs there in plain torch: {reason}"


def test_where_no_gpu_is_found(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    assert info.info()["cuda"] == "no: torch is built for CUDA 12.9 and finds no device"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert info.info()["cuda"] == "no: this torch is a build without CUDA"


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None
import torch
torch.version.cuda = "12.9"
torch.cuda.is_available = lambda: True
torch.cuda.get_device_name = lambda: "NVIDIA H100"
from rwpm_fast.info import info
text = info()["cuda"]
assert text.startswith("12.9: NVIDIA H100; the walk runs there in plain torch: "), text
assert text.endswith("; install Triton: pip install triton"), text
"""


def test_triton_that_cannot_be_imported(run_python):
    run_python(WITHOUT_TRITON)
