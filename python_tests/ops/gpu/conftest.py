import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: pip install rwpm-fast[gpu]")


@pytest.fixture(scope="session")
def device():
    """A GPU where there is one; else the processor, where Triton's interpreter runs the kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody has written holds NaN or the largest integer: what a kernel leaves out shows."""
    empty, empty_like = torch.empty, torch.empty_like

    def poison(t):
        return t.fill_(torch.nan if t.is_floating_point() else torch.iinfo(t.dtype).max)

    monkeypatch.setattr(torch, "empty", lambda *shape, **facts: poison(empty(*shape, **facts)))
    monkeypatch.setattr(torch, "empty_like", lambda t, **facts: poison(empty_like(t, **facts)))
