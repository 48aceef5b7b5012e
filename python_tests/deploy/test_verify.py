"""An export that differs from eager torch is not kept."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.cli import main
from rwpm_fast.deploy import export as export_module
from rwpm_fast.deploy.errors import ExportError
from rwpm_fast.deploy.metadata import Metadata
from rwpm_fast.deploy.runners import EagerRunner
from rwpm_fast.deploy.verify import sizes_of, verify
from rwpm_fast.ops import library
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
    """An exporter that writes a file, and a runner that adds ``change`` to eager's score or raises ``error``."""
    made = {}

    def export(module, photo, path, *, metadata, cpu=None):
        path.write_bytes(b"package")
        made.update(scorer=module.scorer, metadata=metadata)

    def open_runner(path):
        if "error" in made:
            raise made["error"](path)
        return Changed(made["scorer"], lambda s, c: (s + made.get("change", 0), c))

    monkeypatch.setattr(export_module, "export_pt2", export)
    monkeypatch.setattr(export_module, "check_compiler", lambda: None)
    monkeypatch.setattr(export_module, "open_runner", open_runner)
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


def test_photos_of_the_wrong_kind_are_told(tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no photo")
    Image.fromarray(np.ones((200, 200), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(PHOTO[:100]).save(tmp_path / "small.png")
    for name, text in (
        ("text.jpg", "text.jpg: not a picture that can be read"),
        ("float.tif", "float.tif: expected 8 or 16 bits a channel, got floating-point pixels"),
        ("small.png", "small.png: photo: expected sides of at least 128 pixels"),
    ):
        words = ["--photo", str(tmp_path / name), "--out", str(tmp_path / "out")]
        assert main(["export", "compact", "--format", "pt2", *words]) == 1
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_changed_files_beside_an_export_are_left(exporter, scorer, tmp_path):
    path = tmp_path / "tiny.pt2"
    for name in ("CMakeLists.txt", "run_pt2.py"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "example.cpp").symlink_to("nothing")
    export_module.export(scorer, path, photos=[PHOTO])
    changed = ["run_pt2.py", "example.cpp", "CMakeLists.txt"]
    assert [file.name for file in export_module.foreign_files(path)] == changed
    assert (tmp_path / "run_pt2.py").read_text() == (tmp_path / "CMakeLists.txt").read_text() == "mine"
    assert (tmp_path / "example.cpp").is_symlink()
    for name in changed:
        (tmp_path / name).unlink()
    for _ in range(2):  # ours are written again
        export_module.export(scorer, path, photos=[PHOTO])
        assert export_module.foreign_files(path) == [] and (tmp_path / "run_pt2.py").exists()


def test_the_library_stands_beside_every_package(exporter, tmp_path):
    export_module.export(Scorer(TinyNetwork()), tmp_path / "tiny.pt2", photos=[PHOTO])
    assert (tmp_path / "librwpm_ops.so").read_bytes() == library.LIBRARY.read_bytes()


def test_where_the_rest_cannot_be_written_there_is_no_file(exporter, scorer, tmp_path):
    (tmp_path / "librwpm_ops.so").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*librwpm_ops\.so"):
        export_module.export(scorer, tmp_path / "tiny.pt2", photos=[PHOTO])
    assert not (tmp_path / "tiny.pt2").exists()


@pytest.mark.parametrize(
    "error", [lambda path: ExportError(f"{path}: broken"), lambda path: OSError(28, f"{path}: broken")]
)
def test_errors_name_the_file_that_was_asked_for(exporter, scorer, tmp_path, error):
    exporter["error"] = error
    path = tmp_path / "tiny.pt2"
    with pytest.raises((ExportError, OSError), match=r"tiny\.pt2: broken") as told:
        export_module.export(scorer, path, photos=[PHOTO])
    assert str(path) in str(told.value) and ".rwpm-export" not in str(told.value)
    assert files(tmp_path) == []


def test_places_and_devices_are_checked_before_any_work(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "check_compiler", lambda: None)
    with pytest.raises(FileNotFoundError, match=r"path: expected a file in a folder that exists, got .*missing"):
        export_module.export(scorer, tmp_path / "missing" / "tiny.pt2")
    (tmp_path / "tiny.pt2").mkdir()
    with pytest.raises(IsADirectoryError, match="path: expected a file, got the folder"):
        export_module.export(scorer, tmp_path / "tiny.pt2")
    scorer.network.to("meta")
    with pytest.raises(ValueError, match=r"scorer: expected a network on the CPU, got one on meta; use network.cpu"):
        export_module.export(scorer, tmp_path / "other.pt2")


def test_a_missing_compiler_is_told(scorer, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ExportError, match=r"no-such-compiler: no such C.. compiler, which packages are compiled with"):
        export_module.export(scorer, tmp_path / "tiny.pt2")


def test_missing_packages_of_onnx_are_told(scorer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"the export to ONNX needs onnx.*pip install 'rwpm-fast\[onnx\]'"):
        export_module.export(scorer, tmp_path / "tiny.onnx")


def test_export_takes_no_device(capsys):
    with pytest.raises(SystemExit):
        main([*WORDS, "--out", "out", "--device", "cuda"])
    assert "unrecognized arguments: --device cuda" in capsys.readouterr().err


class Odd(TinyNetwork):
    """A network whose logits are changed by a function."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def head(self, embedding_map):
        return self.change(super().head(embedding_map))


def failing(logits):
    raise RuntimeError("sizes differ\nand more")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits[:, 0], r"expected logits \[1, 5, h, w\] of tiny, got \[1, 32, 32\] float32"),
        (lambda logits: logits[:, :3], r"expected logits .* got \[1, 3, 32, 32\] float32"),
        (lambda logits: logits.argmax(1, keepdim=True).repeat(1, 5, 1, 1), r"expected logits .* 32\] int64"),
        (lambda logits: {"out": logits}, r"expected logits .* of tiny, got dict"),
        (failing, "tiny fails on a photo of 64x64: sizes differ$"),
    ],
    ids=["no channels", "few classes", "classes", "dict", "failing"],
)
def test_what_gives_no_logits_is_told(exporter, tmp_path, change, message):
    with pytest.raises(ExportError, match=f"^module: {message}"):
        export_module.export(Scorer(Odd(change)), tmp_path / "odd.pt2", photos=[PHOTO])
    assert files(tmp_path) == []
