"""The report is one valid page that needs nothing else, tells all figures, and shows each photo once."""

from __future__ import annotations

import base64
import io
import math
import re

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from PIL import Image

from python_tests.helpers import Page
from python_tests.tiny_network import TinyNetwork
from rwpm_fast.data import Frame, LabelValues
from rwpm_fast.evaluate import (
    SINGLE_PROCESS,
    EvaluationResult,
    ImageResult,
    ResultRow,
    Sweep,
    evaluate,
    from_environment,
    launch,
)
from rwpm_fast.evaluate.cache import CacheEntry, MemoryCache
from rwpm_fast.evaluate.per_image import Comparison
from rwpm_fast.evaluate.report import render_report
from rwpm_fast.metrics import PixelMetrics, PixelResult
from rwpm_fast.ops.maps import Walk
from rwpm_fast.scoring.scorer import Scorer

NAN = math.nan
WALK = {"alpha": 0.99, "steps": 20}
# AP of photos without and with the walk. It helps 2, 0, 5, 1 in this order, hurts 4 and 3, and 6 has no anomaly.
APS = [(0.31, 0.52), (0.41, 0.42), (0.13, 0.64), (0.95, 0.93), (0.74, 0.55), (0.86, 0.98), (NAN, NAN)]


def result(ap: float, fpr95: float = 0.25) -> PixelResult:
    none = math.isnan(ap)
    return PixelResult(NAN if none else 0.9, ap, NAN if none else fpr95, 0 if none else 7, 300, 1, "fishyscapes")


@pytest.fixture
def make_frames(tmp_path):
    """Make so many photos with labels."""

    def make(count, name="photo{}"):
        random = np.random.default_rng(0)
        frames = []
        for index in range(count):
            photo, label = tmp_path / f"{index}.png", tmp_path / f"label{index}.png"
            Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(photo)
            Image.fromarray(random.choice(np.array([0, 1, 255], np.uint8), (16, 24))).save(label)
            frames.append(Frame(name.format(index), photo, label, LabelValues.from_values()))
        return frames

    return make


@pytest.fixture
def make_sweep(make_frames):
    """Make a sweep of scorers over photos of given AP, in the order of the scorers."""

    def make(aps=APS, scorers=("without", "with"), scores=("energy",), **names):
        random = np.random.default_rng(0)
        cache, images = MemoryCache(), []
        for index, frame in enumerate(make_frames(len(aps), **names)):
            image = ImageResult(frame, cache_keys={scorer: f"{index} {scorer}" for scorer in scorers})
            for scorer, ap in zip(scorers, aps[index], strict=True):
                score_maps = {score: random.normal(size=(16, 24)) for score in scores}
                cache.put(image.cache_keys[scorer], CacheEntry(score_maps, 0.1, 0.2))
                image.results |= {(scorer, score): result(ap, 1 - ap) for score in scores}
            images.append(image)
        metrics = PixelMetrics()
        metrics.update(random.normal(size=500), random.integers(0, 2, 500))
        keys = [(scorer, score) for scorer in scorers for score in scores]
        return Sweep({}, dict.fromkeys(keys, metrics.curve()), {}, images, SINGLE_PROCESS, cache)

    return make


def row(dataset="Roads", label="without", score="energy", ap=0.5, fpr95=0.25, **published) -> ResultRow:
    settings = None if label == "without" else WALK
    return ResultRow(dataset, label, score, settings, result(ap, fpr95), None, 0.1, 0.2, 3.5, published)


def result_of(sweep, rows=None, dataset="Roads", **changes) -> EvaluationResult:
    rows = rows or [row(ap=0.4567, AP=21.1), row(label="with", ap=0.5678, fpr95=0.125, AP=23.2)]
    settings = {"network": "tiny", "runs": [{"photos": 7}, {"photos": 8}], "preset": None}
    facts = {"title": "Tiny", "heading": "walk", "columns": ("AuROC", "AP", "FPR95", "FPS"), "command": "rwpm-fast e"}
    return EvaluationResult(**{**facts, "settings": settings, "rows": rows, "sweeps": {dataset: sweep}, **changes})


@pytest.fixture
def drawn(monkeypatch):
    """Draw in no time; the ids of the photos that were drawn."""
    drawn = []

    def draw(self, image):
        drawn.append(image.frame.id)
        return image.frame.id.encode()

    monkeypatch.setattr(Comparison, "_panel", draw)
    return drawn


def panels_of(page) -> list[str]:
    """Ids behind the pictures that ``drawn`` made, in the order of the page."""
    return [base64.b64decode(source.split(",")[1]).decode() for source in page.sources if "webp" in source]


def test_page_tells_all_and_needs_nothing_else(make_sweep):
    evaluated = result_of(make_sweep(APS[4:]), source="others, elsewhere", notes=["Two were away."])
    html = render_report(evaluated)
    page = Page(html)
    assert "prefers-color-scheme: dark" in html
    for wanted in ("Tiny", "others, elsewhere", "Two were away.", "rwpm-fast e", "photos 7; photos 8", "torch_threads"):
        assert wanted in page.text, wanted
    assert "Roads, energy: AP 45.67 % to 56.78 %, FPR95 25.00 % to 12.50 % with the walk." in page.text
    assert "walk, withalpha 0.99, steps 20" in page.text
    for cell in [cell for row in evaluated.cells() for cell in row]:
        assert cell in page.text, cell
    assert "photo0: AP 74.00 → 55.00 (-19.00), FPR95 26.00 → 45.00" in page.text
    assert "photo1: AP 86.00 → 98.00 (+12.00), FPR95 14.00 → 2.00" in page.text
    assert "photo2: no anomaly" in page.text
    assert "photo0" + "74.00" + "55.00" + "-19.00" + "26.00" + "45.00" in page.text  # a row of the table
    assert "photo2-----" in page.text
    pictures = [source.split(",")[1] for source in page.sources if source.startswith("data:")]
    opened = [Image.open(io.BytesIO(base64.b64decode(picture, validate=True))) for picture in pictures]
    assert [picture.format for picture in opened] == ["PNG", "WEBP", "WEBP", "WEBP"]
    assert {picture.width for picture in opened[1:]} == {1144}


def test_photos_are_told_apart_by_what_the_walk_did(make_sweep, drawn):
    page = Page(render_report(result_of(make_sweep())))
    assert drawn == [f"photo{i}" for i in range(7)]
    assert panels_of(page) == [f"photo{i}" for i in (2, 0, 5, 4, 3, 1, 6)]
    sections = re.split("(Where the walk helps most|Where it hurts most|Best photos|Worst photos|The other)", page.text)
    found = {name: re.findall(r"photo(\d):", text) for name, text in zip(sections[1::2], sections[2::2], strict=True)}
    assert found == {
        "Where the walk helps most": ["2", "0", "5"],
        "Where it hurts most": ["4", "3"],
        "Best photos": ["5", "3", "2"],
        "Worst photos": ["1", "0", "4"],
        "The other": ["6", "6"],  # what opens it, and its caption
    }
    anchors = [source[1:] for source in page.sources if source.startswith("#")]
    assert sorted(set(anchors)) == sorted(page.ids) == [f"photo-0-{i}" for i in range(7)]
    assert len(anchors) == 7 + 5  # the table, and what the best and the worst repeat


def test_fewer_panels_are_those_that_tell_most(make_sweep, drawn):
    evaluated = result_of(make_sweep())
    page = Page(render_report(evaluated, panels=4))
    assert panels_of(page) == ["photo2", "photo0", "photo5", "photo4"]
    assert set(page.ids) == {source[1:] for source in page.sources if source.startswith("#")}
    assert "photo3: AP 95.00 → 93.00" in page.text
    bare = Page(render_report(evaluated, panels=0))
    assert not bare.ids and not panels_of(bare) and "#" not in "".join(bare.sources)
    assert "photo3: AP 95.00 → 93.00" in bare.text
    with pytest.raises(ValueError, match=r"^panels: expected 0 or more, got -1"):
        render_report(evaluated, panels=-1)


def test_data_sets_share_the_panels(make_sweep, drawn):
    sweeps = {"Few": make_sweep(APS[:1], name="few{}"), "Many": make_sweep(name="many{}")}
    rows = [row(name, label, ap=ap) for name in sweeps for label, ap in (("without", 0.25), ("with", 0.75))]
    page = Page(render_report(result_of(None, rows, sweeps=sweeps), panels=6))
    assert [name[:-1] for name in panels_of(page)] == ["few"] + 5 * ["many"]
    assert len(set(page.ids)) == len(page.ids) == 6
    assert page.text.count("AP 25.00 % to 75.00 %") == 2


def test_one_number_does_not_lead(make_sweep, drawn):
    """AP of the first photo, of a tiny anomaly, rises most; the second gains more in both; the last is mixed."""
    gains = [(0.6, 0.001), (0.2, 0.3), (0.1, 0.2), (0.15, 0.1), (0.3, -0.1)]
    sweep = make_sweep([(0.2, 0.2 + ap) for ap, _ in gains])
    for image, (ap, fpr95) in zip(sweep.images, gains, strict=True):
        image.results = {("without", "energy"): result(0.2, 0.5), ("with", "energy"): result(0.2 + ap, 0.5 - fpr95)}
    leading = Comparison.from_result(result_of(sweep), "Roads").leading()
    assert [delta.index for delta in leading["Where the walk helps most"]] == [1, 0, 3]
    assert leading["Where it hurts most"] == []
    for image in sweep.images:  # the other way round
        image.results = dict(zip(image.results, reversed(image.results.values()), strict=True))
    leading = Comparison.from_result(result_of(sweep), "Roads").leading()
    assert [delta.index for delta in leading["Where it hurts most"]] == [1, 0, 2]
    assert leading["Where the walk helps most"] == []
    assert "sum of their ranks in AP and in FPR95" in Page(render_report(result_of(sweep))).text


def test_the_effect_by_photo_is_told(make_sweep, drawn):
    page = Page(render_report(result_of(make_sweep())))
    # Six photos with anomalies; AP better on 2, 0, 5, 1, worse on 4 and 3.
    assert "56.67 → 67.33" + "43.33 → 32.67" + "4" + "2" + "0" + "+10.67" in page.text
    assert "2000 samples of the photos with replacement" in page.text


def test_photos_that_failed(make_sweep, drawn):
    sweep = make_sweep()
    sweep.images[2] = ImageResult(sweep.images[2].frame, failure="labels <i>: torn")
    page = Page(render_report(result_of(sweep)))
    assert "Photos that could not be used" in page.text and "labels <i>: torn" in page.text
    assert set(panels_of(page)) == {f"photo{i}" for i in (0, 1, 3, 4, 5, 6)}


def test_the_better_of_two_is_bold(make_sweep, drawn):
    rows = [
        row(ap=0.4567, AP=23.2, FPR95=40.5),
        row(label="with", ap=0.5678, AP=21.1, FPR95=40.4),
        row(score="max_logit", ap=0.31),
        row(label="tau", score="max_logit", ap=0.32),
    ]
    bold = re.findall("<td><b>(.*?)</b>", render_report(result_of(make_sweep(scores=("energy",)), rows[:2])))
    assert bold == ["23.20", "56.78", "40.40"]  # both FPR95 of ours are 25.00, and FPS is no contest
    sweep = make_sweep(scores=("energy", "max_logit"), scorers=("without", "with", "tau"), aps=[(0.1, 0.2, 0.3)])
    both = render_report(result_of(sweep, rows))
    assert re.findall("<td><b>(.*?)</b>", both) == bold
    assert both.count("ROC and precision-recall") == 2


def test_a_table_compares_its_best_walk(make_sweep, drawn):
    labels = ["tau = 1", "without", "tau = 0.1", "tau = 0.01"]
    rows = [row(label=label, ap=ap) for label, ap in zip(labels, (NAN, 0.4, 0.6, 0.5), strict=True)]
    sweep = make_sweep([(0.1, 0.2, 0.7, 0.3)], labels)
    page = Page(render_report(result_of(sweep, rows)))
    assert "AP 40.00 % to 60.00 %, FPR95 25.00 % to 25.00 % with tau = 0.1." in page.text
    assert "photo0: AP 20.00 → 70.00 (+50.00)" in page.text
    page = Page(render_report(result_of(sweep, rows[2:])))
    assert "no walk to compare with going without" in page.text
    assert not page.ids


def test_no_anomaly_at_all(make_sweep, drawn):
    sweep = make_sweep([(NAN, NAN)])
    sweep.curves = dict.fromkeys(sweep.curves, PixelMetrics().curve())
    page = Page(render_report(result_of(sweep, [row(ap=NAN), row(label="with", ap=NAN)])))
    assert "Roads: no anomaly." in page.text
    assert "energy: curves need pixels of anomalies and of inliers" in page.text
    assert "<b>-</b>" not in page.text and panels_of(page) == ["photo0"]


def test_names_are_escaped(make_sweep, drawn):
    nasty = "<i>\"&'</i>{style}"
    sweep = make_sweep(name="<i>{}")
    labels = [row(nasty), row(nasty, "with")]
    changes = {"title": nasty, "command": nasty, "source": nasty, "notes": [nasty], "settings": {nasty: nasty}}
    html = render_report(result_of(sweep, labels, nasty, **changes))
    assert "i" not in Page(html).tags
    assert "<i>" not in html


def write_page(frames, path) -> int:
    """Evaluate and write the page, in the first of all processes."""
    torch.set_num_threads(1)
    with from_environment() as processes:
        sweep = evaluate(Scorer(TinyNetwork(), walk=Walk(steps=3)), frames, processes=processes)
        rows = [
            ResultRow("Roads", label, score, None if label == "without" else {}, result, None, 0, 0, 0)
            for (label, score), result in sweep.results.items()
        ]
        page = render_report(result_of(sweep, rows, columns=("AP", "FPR95")))
        assert (page is None) is not processes.first
        if page is not None:
            path.write_text(page)
    return 0


@pytest.mark.slow
def test_two_processes_write_the_page_of_one(make_frames, tmp_path):
    frames = make_frames(3)
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    assert write_page(frames, one) == launch(2, write_page, frames, two) == 0
    assert one.read_text() == two.read_text()
    assert len(Page(one.read_text()).ids) == 3
