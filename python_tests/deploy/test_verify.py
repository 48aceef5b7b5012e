"""An export that differs from eager torch is not kept."""

import json

import numpy as np
import pytest

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.cli import main
from rwpm_fast.deploy import export as export_module
from rwpm_fast.deploy import pt2
from rwpm_fast.deploy.errors import ExportError
from rwpm_fast.deploy.metadata import Metadata
from rwpm_fast.deploy.runners import EagerRunner
from rwpm_fast.deploy.verify import sizes_of, verify
from rwpm_fast.scenes import render_scene

PHOTO = render_scene(np.random.default_rng(0), (128, 160))[0]


class Changed(EagerRunner):
    """A scorer whose outputs are changed."""

    def __init__(self, scorer, change):
        super().__init__(scorer)
        self.change = change

    def run(self, photo):
        return self.change(*super().run(photo))


@pytest.fixture
def scorer():
    return Scorer(TinyNetwork(), walk=Walk(steps=2))


def test_what_equals_eager_passes_at_every_size(scorer):
    sizes = [photo.shape[:2] for photo in sizes_of(PHOTO)]
    assert sizes[0] == (128, 160) and all(side % 2 for side in sizes[1]) and sizes[2] == (64, 64)
    found = verify(EagerRunner(scorer), scorer, sizes_of(PHOTO), tolerance=1e-5, name="tiny.pt2")
    assert [comparison.size for comparison in found] == sizes
    assert all(comparison.error == comparison.differing_classes == 0 for comparison in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s, c: (s + 1e-4 * np.abs(s).max() * (s == s.max()), c),
            r"tiny.pt2: differs .* at 160x128: score by 1.0e-04",
        ),
        (lambda s, c: (s, (c + 1) % 5), r"class at 100.00% of the pixels"),
        (lambda s, c: (s.astype(np.float64), c), r"score: expected \[128, 160\] float32, got \[128, 160\] float64"),
        (lambda s, c: (s.T, c), r"score: expected \[128, 160\] float32, got \[160, 128\]"),
        (lambda s, c: (s, c.astype(np.int64)), r"segmentation: expected \[128, 160\] uint8, got .* int64"),
        (lambda s, c: (np.where(s == s.max(), np.nan, s).astype(np.float32), c), r"score: not finite at 1 of 20480"),
    ],
)
def test_what_differs_is_refused(scorer, change, message):
    with pytest.raises(ExportError, match=message):
        verify(Changed(scorer, change), scorer, sizes_of(PHOTO), tolerance=1e-5, name="tiny.pt2")


@pytest.fixture
def exporter(monkeypatch):
    """The command with an exporter that writes a file, and a runner that adds ``change`` to eager's score."""
    made = {}

    def export(module, photo, path, *, metadata, cpu=None):
        path.write_bytes(b"package")
        made.update(scorer=module.scorer, metadata=metadata)

    monkeypatch.setattr(pt2, "export_pt2", export)
    monkeypatch.setattr(
        export_module, "open_runner", lambda path: Changed(made["scorer"], lambda s, c: (s + made.get("change", 0), c))
    )
    return made


def files(folder):
    return sorted(path.name for path in folder.iterdir())


WORDS = ["export", "compact", "--format", "pt2", "--steps", "1"]


def test_a_file_that_equals_eager_is_kept_with_what_runs_it(exporter, tmp_path, capsys):
    assert main([*WORDS, "--threshold", "-3.5", "--out", str(tmp_path)]) == 0
    assert files(tmp_path) == [
        *("CMakeLists.txt", "compact.pt2", "compact.pt2.json", "example.cpp", "librwpm_ops.so", "run_pt2.py")
    ]
    record = json.loads((tmp_path / "compact.pt2.json").read_text())
    assert record["rwpm.threshold"] == "-3.5" and len(record["checked"]) == 3
    assert Metadata.from_strings(record, "record").walk["steps"] == 1
    assert "1280x720: score within 0.0e+00 of its largest" in capsys.readouterr().out


def test_a_file_that_differs_is_not_kept(exporter, tmp_path, capsys):
    exporter["change"] = np.float32(0.5)
    assert main([*WORDS, "--out", str(tmp_path)]) == 1
    assert files(tmp_path) == []
    error = capsys.readouterr().err
    assert "rwpm-fast export: compact.pt2: differs from eager torch at 1280x720" in error and "it is not kept" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "engine"], "--format: expected pt2 or onnx, got engine"),
        (["--format", "pt2", "--pure"], "--pure: only for ONNX"),
        (["--format", "onnx", "--cpu", "x86-64-v3"], "--cpu: only for pt2"),
        (["--format", "pt2", "--cpu", "native"], "--cpu: expected"),
        (["--format", "pt2", "--parts", "2", "--calibrate"], "scorer: calibrated scores depend on the photo's size"),
        (["--format", "pt2", "--threshold", "nan"], "threshold: expected a finite number"),
        (["--format", "pt2", "--photo", "missing.png"], "missing.png: no such file"),
    ],
)
def test_bad_options_are_told_before_any_work(words, message, tmp_path, capsys):
    assert main(["export", "compact", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.glob("out/*"))
