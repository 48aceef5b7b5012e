"""The report is one valid, self-contained file and claims no more than was measured."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from python_tests.helpers import Page
from rwpm_fast.demo import DemoResult, Timing, render_report
from rwpm_fast.demo.report import headline
from rwpm_fast.metrics import PixelResult
from rwpm_fast.ops.settings import WalkSettings


def metrics(ap, auroc, fpr95):
    return PixelResult(auroc, ap, fpr95, positives=100, negatives=1900, images=1, fpr_rule="fishyscapes")


def result(**changes) -> DemoResult:
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((2, 40, 60))
    full = DemoResult(
        title="Scene 0",
        synthetic=True,
        photo=rng.integers(0, 256, (40, 60, 3), dtype=np.uint8),
        before=before,
        after=after,
        walk=Timing("rwpm_fast", 0.0123, 5 * 2**20),
        pixels=8192,
        channels=64,
        value_channels=19,
        walk_settings=WalkSettings(alpha=0.97, steps=21, temperature=0.013, parts=3),
        command="rwpm-fast demo --seed 0",
        labels=rng.choice(np.array([0, 1, 255], np.uint8), (40, 60), p=[0.8, 0.15, 0.05]),
        metrics_before=metrics(0.41, 0.93, 0.31),
        metrics_after=metrics(0.87, 0.99, 0.02),
        baseline=Timing("dense torch", 0.615),
        difference=2.5e-6,
        difference_bound=1e-4,
        environment={"torch": "2.13.0", "processor": "some CPU, 2 threads"},
        settings={"score": "energy"},
    )
    return dataclasses.replace(full, **changes)


UNLABELED = {"labels": None, "metrics_before": None, "metrics_after": None}
ALONE = {"baseline": None, "difference": None, "difference_bound": None}


@pytest.mark.parametrize("changes", [{}, UNLABELED, ALONE, UNLABELED | ALONE], ids=["full", "bare", "alone", "both"])
def test_page_is_valid_and_self_contained(changes):
    html = render_report(result(**changes))
    page = Page(html)
    assert page.tags.count("html") == page.tags.count("body") == 1
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for source in page.sources:
        assert base64.b64decode(source.split(",")[1], validate=True).startswith(b"\x89PNG")
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_page_shows_what_was_measured():
    page = Page(render_report(result()))
    assert len(page.sources) == 2
    metrics = ["41.0 %", "87.0 %", "31.0 %", "2.0 %"]
    timing = ["12.3 ms", "615 ms", "50 times faster", "5.0 MiB", "not known", "2.5e-06", "1.0e-04"]
    settings = [
        "8,192",
        "0.97",
        "21",
        "0.013",
        "0 (exact)",
        "3 x 3",
        "energy",
        "some CPU, 2 threads",
        "rwpm-fast demo --seed 0",
    ]
    for wanted in [*metrics, *timing, *settings, "rendered street", "proves nothing about real roads"]:
        assert wanted in page.text, wanted


def test_page_without_labels():
    page = Page(render_report(result(synthetic=False, **UNLABELED)))
    assert len(page.sources) == 1
    assert "Without labels the scores cannot be evaluated" in page.text
    assert "AuROC" not in page.text
    assert "rendered" not in page.text


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"difference": 1e-3}, "do not agree"),
        ({"difference": float("nan")}, "do not agree"),
        ({"difference": None}, "not compared"),
        ({"difference_bound": None}, "not compared"),
    ],
)
def test_no_ratio_without_agreement(changes, wanted):
    text = Page(render_report(result(**changes))).text
    assert wanted in text
    assert "times faster" not in text


def test_a_slower_walk_is_called_slower():
    assert "2 times slower than the dense torch walk" in headline(result(walk=Timing("ours", 1.23)))


def test_headline():
    assert headline(result()) == (
        "Scene 0: AP 41.0 % to 87.0 %, FPR95 31.0 % to 2.0 %, 12.3 ms for a walk over 8,192 pixels, "
        "50 times faster than the dense torch walk."
    )
    assert headline(result(**UNLABELED, **ALONE)) == "Scene 0: 12.3 ms for a walk over 8,192 pixels."


def test_names_are_escaped():
    nasty = "<b>\"&'</b>{style}"
    html = render_report(
        result(
            title=nasty,
            command=nasty,
            walk=Timing(nasty, 0.01),
            environment={nasty: nasty},
            settings={nasty: nasty},
        )
    )
    page = Page(html)
    assert "b" not in page.tags
    assert "<b>" not in html
    assert page.text.count(nasty) == 8


def test_a_tolerance_is_shown():
    page = Page(render_report(result(walk_settings=WalkSettings(tolerance=0.001))))
    assert "tolerance0.001" in page.text.replace("\n", "") and "0 (exact)" not in page.text
