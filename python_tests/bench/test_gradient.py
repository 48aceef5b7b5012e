"""The timing of the gradient, on a map of few pixels."""

import json

import numpy as np
import pytest

from bench import gradient
from python_tests.helpers import manifold


@pytest.fixture
def embeddings(tmp_path):
    path = tmp_path / "embeddings.npz"
    maps = (manifold(20, 36, channels, seed=channels).permute(2, 0, 1).numpy() for channels in (12, 5))
    np.savez(path, **dict(zip(("embedding", "logits"), maps, strict=True)))
    return path


def test_measures_what_it_has_checked(embeddings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gradient, "STREAMED_PIXELS", 1000)
    monkeypatch.setattr(gradient, "DENSE_PIXELS", 1000)
    record = tmp_path / "record.json"
    assert gradient.main(["--embeddings", str(embeddings), "--rounds", "1", "--json", str(record)]) == 0
    out, _ = capsys.readouterr()
    assert len(out.strip().splitlines()) == 2 + 5  # three sizes, the largest at one tolerance
    rows = json.loads(record.read_text())["rows"]
    assert [row["pixels"] for row in rows] == [180, 180, 720, 720, 2880]
    assert rows[-1]["errors"] is None and "dense" not in rows[-1]["seconds"]
    assert all(max(row["errors"]) < 1e-4 and row["memory"] >= 0 for row in rows[:-1])


def test_wrong_gradients_are_no_measurement(embeddings, monkeypatch):
    monkeypatch.setattr(gradient, "MAX_ERROR", 0.0)
    tensors = gradient.read(embeddings, 1.0)
    with pytest.raises(ValueError, match=r"gradients: expected errors of at most 0\.0"):
        gradient.measure(*tensors, 0.0, 1)
