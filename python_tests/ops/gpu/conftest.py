import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: pip install rwpm-fast[gpu]")


@pytest.fixture(scope="session")
def device():
    """A GPU, or without one the processor, where Triton's interpreter runs the kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill uninitialized memory with NaN or the largest integer: what a kernel does not write shows."""
    empty, empty_like = torch.empty, torch.empty_like

    def poison(t):
        return t.fill_(torch.nan if t.is_floating_point() else torch.iinfo(t.dtype).max)

    monkeypatch.setattr(torch, "empty", lambda *shape, **options: poison(empty(*shape, **options)))
    monkeypatch.setattr(torch, "empty_like", lambda t, **options: poison(empty_like(t, **options)))
