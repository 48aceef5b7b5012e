"""What is said of walks that will take minutes. No test waits for one: the limits are lowered."""

import io
import threading

import pytest
import torch

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.cli import slow
from rwpm_fast.ops import estimate


@pytest.fixture
def rate(monkeypatch):
    """A machine ten times slower than that of the model."""
    monkeypatch.setattr(estimate, "seconds_a_unit", lambda *_: 10.0)


def announced(capsys, walk, size, value_channels=None):
    scorer = Scorer(networks.CompactNet(), walk=walk)
    slow.announce_slow_walks(scorer)
    e = torch.randn(1, 8, *size)
    v = None if value_channels is None else torch.randn(1, value_channels, *size)
    for _ in range(2):
        scorer.walk(e, value_map=v)
    return capsys.readouterr().err


def test_the_exact_walk_says_so_once_with_the_way_out(rate, capsys, monkeypatch):
    monkeypatch.setattr(slow, "SLOW", 1e-3)
    err = announced(capsys, Walk(steps=3, tolerance=0), (30, 40), 3)
    assert err.count("\n") == 1
    assert "the walk of 40x30 = 1200 pixels takes about 0 s; --tolerance 1e-4 or --parts 2 is faster" in err


def test_a_tolerance_says_that_the_graph_decides(rate, capsys, monkeypatch):
    monkeypatch.setattr(slow, "SLOW", 1e-3)
    err = announced(capsys, Walk(steps=3), (30, 40))
    assert "up to 0 s where the graph is not sparse; --parts 2 is faster" in err


def test_fast_walks_say_nothing(capsys):
    for tolerance in (0.0, 1e-4):
        assert announced(capsys, Walk(steps=3, tolerance=tolerance), (30, 40)) == ""


def test_progress_while_it_runs_on_a_terminal(rate, monkeypatch):
    class Terminal(io.StringIO):
        written = threading.Event()

        def isatty(self):
            return True

        def write(self, text):
            if "walk: " in text:
                self.written.set()
            return super().write(text)

    class Waiting(Walk):
        def forward(self, *args, **kwargs):
            assert Terminal.written.wait(60)
            return super().forward(*args, **kwargs)

    terminal = Terminal()
    monkeypatch.setattr(slow.sys, "stderr", terminal)
    monkeypatch.setattr(slow, "SLOW", 1e-3)
    monkeypatch.setattr(slow, "TICK", 0.01)
    scorer = Scorer(networks.CompactNet(), walk=Waiting(steps=3))
    slow.announce_slow_walks(scorer)
    scorer.walk(torch.randn(1, 8, 30, 40))
    assert "of at most about" in terminal.getvalue()
