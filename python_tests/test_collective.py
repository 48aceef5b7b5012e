"""Processes of a training: what the others say when one of them goes away."""

from __future__ import annotations

import pytest
import torch

from rwpm_fast import collective


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("all_reduce", lambda: collective.summed(torch.ones(2))),
        ("all_gather_object", lambda: collective.gathered([1])),
        ("barrier", collective.wait),
    ],
)
def test_a_process_that_went_away_is_told(monkeypatch, name, call):
    def broken(*arguments):
        raise RuntimeError("Connection closed by peer")

    call()  # alone there is nobody to wait for
    monkeypatch.setattr(collective, "count", lambda: 2)
    monkeypatch.setattr(collective.dist, name, broken)
    with pytest.raises(ConnectionError, match=r"another process .* went away \(Connection closed by peer\); its own"):
        call()
