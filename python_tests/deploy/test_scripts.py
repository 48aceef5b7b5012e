"""The scripts beside exports: one set of rules, no file of the user's replaced, and every error one line."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast import deploy
from rwpm_fast.deploy.metadata import Metadata
from rwpm_fast.io.images import read_image
from rwpm_fast.ops import library
from rwpm_fast.scenes import render_scene

TEMPLATES = Path(deploy.__file__).with_name("templates")
METADATA = Metadata("tiny", ("road", "sky"), "energy", threshold=0.5).to_strings()
PHOTO = render_scene(np.random.default_rng(0), (64, 96))[0]


def script(name):
    """A script as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, TEMPLATES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def brightness(photo):
    """A score from 0 to 1; exactly 0.5 in the left half."""
    score = photo.mean(-1, dtype=np.float32) / 255
    score[:, : photo.shape[1] // 2] = 0.5
    return score


@pytest.fixture(params=["run_pt2", "run_onnx"])
def run(request, tmp_path, monkeypatch, capsys):
    """A script whose model is :func:`brightness`, in a folder with a photo; its status and its line."""
    if request.param == "run_onnx":
        pytest.importorskip("onnxruntime")
    module = script(request.param)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("street.png")
    Path("model").write_bytes(b"")

    def run(*words, score=brightness, **changes):
        monkeypatch.setattr(module, "load", lambda *_: (score, {**METADATA, **changes}))
        status = module.main(["model", *words])
        told = capsys.readouterr()
        assert (status, told.err.count("\n")) in ((0, 0), (1, 1))
        return status, (told.err or told.out).removeprefix(f"{request.param}: ").rstrip()

    run.module = module
    return run


def test_the_scripts_are_the_same_but_for_loading():
    shared = [(TEMPLATES / f"{name}.py").read_text().split("# From here on ")[1] for name in ("run_pt2", "run_onnx")]
    assert shared[0] == shared[1]


def test_a_map_and_a_picture(run):
    status, line = run("street.png", "--out", ".")
    score = brightness(PHOTO)
    assert status == 0 and f"{(score > 0.5).mean():.2%} of the pixels above 0.5" in line
    np.testing.assert_array_equal(np.load("street.npy"), score)
    picture = np.array(Image.open("street_overlay.png")).astype(int)
    red = (picture[..., 0] > 160) & (picture[..., 1] < 80)
    assert not red[score == 0.5].any()  # a score of the threshold is not above it
    assert red[score > 0.5].all()
    np.testing.assert_array_equal(Image.open("street.png"), PHOTO)
    assert sorted(path.name for path in Path().iterdir()) == ["model", "street.npy", "street.png", "street_overlay.png"]


@pytest.mark.parametrize("threshold", ["", "0.25"])
def test_a_flat_map_is_drawn(run, threshold):
    flat = np.full(PHOTO.shape[:2], 0.125, np.float32)
    assert run("street.png", score=lambda photo: flat, **{"rwpm.threshold": threshold})[0] == 0
    picture = np.array(Image.open("maps/street_overlay.png"))
    assert (picture == picture[..., :1]).all()  # gray


def test_results_replace_nothing(run):
    Path("other").mkdir()
    for copy in ("street_overlay.png", "other/street.jpg"):
        Image.fromarray(PHOTO).save(copy)
    before = Path("street_overlay.png").read_bytes()
    text = "street.png: would replace street_overlay.png, which is read; give another --out"
    assert run("street.png", "street_overlay.png", "--out", ".") == (1, text)
    text = "street.png and other/street.jpg: both would write maps/street.npy; score photos of one name apart"
    assert run("street.png", "other/street.jpg") == (1, text)
    Path("maps").mkdir()
    Path("maps/street.npy").hardlink_to("model")
    assert run("street.png") == (1, "street.png: would replace model, which is read; give another --out")
    assert run("street.png", "--out", "model") == (1, "--out: expected a folder, got the file model")
    status, line = run("street.png", "--out", "model/maps")
    assert status == 1 and "model/maps: Not a directory" in line
    assert Path("street_overlay.png").read_bytes() == before


def test_nothing_partial_is_left(run, monkeypatch):
    def full(file, arr):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.module.np, "save", full)
    assert run("street.png") == (1, "maps/street.npy: cannot be written: No space left on device")
    assert not list(Path("maps").iterdir())


def test_what_fails_is_told(run):
    def broken(photo):
        raise RuntimeError("first line\nsecond line")

    assert run("street.png", score=broken) == (1, "street.png: model fails: first line")
    infinite = np.where(brightness(PHOTO) > 0.5, np.inf, 0)
    status, line = run("street.png", score=lambda photo: infinite)
    assert status == 1 and line.startswith("street.png: score: not finite at ")


def test_photos_are_read_as_everywhere(run):
    gray = (np.arange(64 * 80).reshape(64, 80) * 12).astype(np.uint16)
    Image.fromarray(gray).save("deep.png")
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PHOTO).save("turned.tif", exif=exif)
    Image.fromarray(PHOTO).save("turned.png", exif=exif)
    Image.fromarray(PHOTO).convert("P").save("palette.png")
    for name in ("deep.png", "turned.tif", "turned.png", "palette.png"):
        found, wanted = run.module.read_photo(Path(name), 64), read_image(name, upright=True)
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_what_is_no_photo_is_told(run):
    Path("text.jpg").write_text("no photo")
    Path("cut.png").write_bytes(Path("street.png").read_bytes()[:2000])
    Image.fromarray(np.ones((40, 40), np.float32)).save("float.tif")
    Image.fromarray(PHOTO[:63]).save("small.png")
    for name, text in (
        ("no.png", "cannot be read: No such file or directory"),
        ("text.jpg", "cannot be read: cannot identify image file"),
        ("cut.png", "cannot be read: "),
        ("float.tif", "expected 8 or 16 bits a channel, got float32 1.0 to 1.0"),
        ("small.png", "expected at least 64 pixels a side, got 96x63"),
    ):
        status, line = run(name)
        assert status == 1 and line.startswith(f"{name}: {text}"), line


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, "expected metadata rwpm.format 1, got None: no export of it"),
        ({**METADATA, "rwpm.format": "2"}, "expected metadata rwpm.format 1, got 2: no export of it"),
        ({"rwpm.format": "1"}, "its metadata is broken (rwpm.torch: None); export again"),
        ({**METADATA, "rwpm.threshold": "high"}, "its metadata is broken (rwpm.threshold: 'high'); export again"),
        ({**METADATA, "rwpm.threshold": "nan"}, "its metadata is broken (rwpm.threshold: 'nan'); export again"),
    ],
)
def test_metadata_that_are_broken(run, metadata, text):
    with pytest.raises(run.module.Refused) as told:
        run.module.check_metadata(Path("model"), metadata)
    assert str(told.value) == f"model: {text}"


@pytest.fixture
def package(tmp_path, monkeypatch, capsys):
    """Runs run_pt2.py on a package of metadata alone, in torch that loads nothing; its line."""
    module = script("run_pt2")
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    Image.fromarray(PHOTO).save(tmp_path / "street.png")

    def run(content=None, *words, **changes):
        path = tmp_path / "model.pt2"
        if content is None:
            content = json.dumps({**METADATA, **{key.replace("_", ".", 1): value for key, value in changes.items()}})
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("model/data/aotinductor/model/a.wrapper_metadata.json", content)
        status = module.main([str(path), str(tmp_path / "street.png"), "--out", str(tmp_path / "maps"), *words])
        line = capsys.readouterr().err
        assert status == line.count("\n") == 1
        assert not (tmp_path / "maps").exists()
        return line.removeprefix(f"run_pt2: {path}: ").rstrip()

    return run


def test_packages_that_cannot_run_here(package, tmp_path, monkeypatch):
    ours = ("--library", str(library.LIBRARY))
    assert package("[]", *ours).startswith("expected metadata rwpm.format 1, got []")
    assert package("{", *ours).startswith("expected an export of rwpm-fast, got another file (Expecting")
    assert package(rwpm_torch="2.1.0").startswith("was exported with torch 2.1.0, this is torch ")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert package(rwpm_cpu="x86-64-v3") == "was compiled for x86-64-v3, this processor has DEFAULT"
    assert package(None, *ours, rwpm_op_abi="7") == f"expected a library of ABI 7, got 1 of {library.LIBRARY}"
    assert package(None, *ours).startswith(f"torch {torch.__version__} cannot load it: ")
    without = package(None, "--library", str(tmp_path / "no.so"), rwpm_walk="")  # every package calls operators
    assert without == f"{tmp_path / 'no.so'} with its operators not found; pip install rwpm-fast has it"
    (tmp_path / "no.so").write_text("no library")
    assert "no.so: is no operator library for torch" in package(None, "--library", str(tmp_path / "no.so"))
