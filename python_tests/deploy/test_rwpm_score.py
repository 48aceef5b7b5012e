"""An exported package without Python: the program rwpm-score, its class, and what stands beside every export.

One tiny package serves all: compiling it takes half a minute of one core, the programs as much again.
"""

import ctypes
import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast import __version__
from rwpm_fast.deploy.metadata import Metadata
from rwpm_fast.deploy.pt2 import default_cpu, export_pt2
from rwpm_fast.io.images import read_image
from rwpm_fast.ops import library
from rwpm_fast.scenes import render_scene

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "rwpm_fast" / "deploy" / "templates"
TORCH = Path(torch.__file__).parent

METADATA = Metadata(
    network="tiny",
    classes=("red", "green", "blue"),
    score="difference",
    threshold=0.25,
    walk={"alpha": 0.9},
    cpu=default_cpu(),
).to_strings()
WHERE = (
    "pip install rwpm-fast has it as rwpm_fast/librwpm_ops.so, and so has a build of this repository; "
    "name it with --library"
)


class Tiny(torch.nn.Module):
    """Photo to score and segmentation by the colors themselves; a black photo has no finite score."""

    def forward(self, photo):
        height, width = photo.shape[0], photo.shape[1]
        colors = photo.to(torch.float32).reshape(height * width, 3) / 255
        walked = torch.ops.rwpm.walk.default(colors, None, None, alpha=0.9, steps=2, temperature=0.1)
        score = (walked[:, 0] - walked[:, 2]) / colors.amax()
        return score.reshape(height, width), walked.argmax(1).to(torch.uint8).reshape(height, width)


def scene(height, width):
    return render_scene(np.random.default_rng(0), (height, width))[0].astype(np.uint8)


def with_metadata(package, path, **changes):
    """Copy a package with other metadata, a key of None left out; underscores stand for dots."""
    changes = {key.replace("_", ".", 1): value for key, value in changes.items()}
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("_metadata.json"):
                metadata = {**json.loads(content), **changes}
                content = json.dumps({key: value for key, value in metadata.items() if value is not None}).encode()
            new.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    assert library.unsupported_reason() is None
    path = tmp_path_factory.mktemp("package") / "tiny.pt2"
    export_pt2(Tiny(), torch.from_numpy(scene(80, 112)), path, metadata=METADATA)
    return path


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Folder with rwpm-score and score_package_test."""
    build = tmp_path_factory.mktemp("build")
    settings = [f"-DRWPM_TORCH_DIR={TORCH}", "-DRWPM_CUDA=OFF", "-DRWPM_TSAN=OFF", "-DCMAKE_INSTALL_LIBDIR=lib"]
    subprocess.run(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", *settings], check=True, capture_output=True)
    targets = ["rwpm_score", "score_package_test"]
    subprocess.run(["cmake", "--build", build, "--target", *targets], check=True, capture_output=True)
    return build / "csrc" / "runtime" / "score"


@pytest.fixture
def score(programs, tmp_path):
    """Run rwpm-score in an empty folder; its status, and what it writes to stdout and stderr."""

    def run(*words):
        # A package that fails to load leaves what torch has unpacked of it.
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        words = [programs / "rwpm-score", *words]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def photos(tmp_path):
    """Photos of every kind that is read, by name."""
    picture = Image.fromarray(scene(85, 110))
    turned = Image.Exif()
    turned[274] = 6  # orientation: to be shown turned to the right
    picture.save(tmp_path / "color.png")
    picture.convert("L").save(tmp_path / "gray.png")
    picture.convert("P").save(tmp_path / "palette.png")
    picture.save(tmp_path / "photo.jpg", quality=90)
    picture.save(tmp_path / "upright.jpg", exif=turned)
    picture.save(tmp_path / "map.ppm")
    return sorted(path for path in tmp_path.iterdir())


@pytest.mark.slow
def test_equals_eager_and_writes_everything(score, package, photos, tmp_path):
    out = tmp_path / "maps" / "today"
    status, told, errors = score(
        *(package, *photos, "--out", out, "--library", library.LIBRARY, "--segmentation"),
        *("--threads", "1", "--repeat", "3", "--json", "times.json"),
    )
    assert (status, errors) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == sorted(
        photo.stem + suffix for photo in photos for suffix in (".npy", "_overlay.png", ".segmentation.npy")
    )
    for photo in photos:
        image = read_image(photo, upright=True)
        wanted, classes = (output.numpy() for output in Tiny()(torch.from_numpy(image)))
        found = np.load(out / f"{photo.stem}.npy")
        assert (found.dtype, found.shape) == (np.float32, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6, err_msg=photo.name)
        np.testing.assert_array_equal(np.load(out / f"{photo.stem}.segmentation.npy"), classes)
        assert np.array(Image.open(out / f"{photo.stem}_overlay.png")).shape == image.shape
    assert np.load(out / "upright.npy").shape == (110, 85)

    times = json.loads((tmp_path / "times.json").read_text())
    assert {key: times[key] for key in ("network", "torch", "threads")} == {
        "network": "tiny",
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "threads": 1,
    }
    assert [times[stage]["calls"] for stage in ("decode", "run", "write")] == [
        len(photos),
        3 * len(photos),
        len(photos),
    ]
    run = times["run"]
    assert 0 < run["median_ms"] <= run["p95_ms"] <= run["p99_ms"]
    assert "frames a second" in told


@pytest.mark.slow
def test_the_class_checks_what_a_package_does_not(programs, package):
    done = subprocess.run([programs / "score_package_test", package, library.LIBRARY], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "all passed\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rwpm_torch": "2.12.1"}, "was exported with torch 2.12.1, this is torch {torch}, and generated code runs in "
         "its own minor version only; export it again with torch {torch}"),
        ({"rwpm_op_abi": "2"}, f"expected an operator library of ABI 2, got ABI 1 of {library.LIBRARY}; export again "
         f"with its version of rwpm-fast, or take the library of version {__version__}"),
        ({"rwpm_format": None}, "metadata lacks rwpm.format: no export of rwpm-fast; make one with rwpm-fast export "
         "NETWORK --format pt2"),
        ({"rwpm_format": "2"}, "expected rwpm.format 1, got 2; take the rwpm-score of the version that exported it "
         f"({__version__})"),
        ({"rwpm_device": "cuda"}, "expected an export for the cpu, got one for cuda"),
        ({"rwpm_threshold": "high"}, "metadata rwpm.threshold: expected a number or nothing, got high"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_packages_that_cannot_run_here(score, package, tmp_path, changes, line):
    changed = with_metadata(package, tmp_path / "changed.pt2", **changes)
    status, told, errors = score(changed, "a.png", "--out", "maps", "--library", library.LIBRARY)
    line = line.format(torch=".".join(torch.__version__.split(".")[:2]))
    assert (status, told, errors) == (1, "", f"rwpm-score: {changed}: {line}\n")
    assert not (tmp_path / "maps").exists()


@pytest.mark.slow
def test_operator_libraries_that_are_missing(score, package, tmp_path):
    words = (package, "a.png", "--out", "maps")
    _, _, errors = score(*words)
    missing = f"calls the operator rwpm::walk of librwpm_ops.so, which was not found; {WHERE}"
    assert errors == f"rwpm-score: {package}: {missing}\n"
    _, _, errors = score(*words, "--library", "no.so")
    assert errors == f"rwpm-score: no.so: no such operator library; {WHERE}\n"
    _, _, errors = score(*words, "--library", TORCH / "lib" / "libc10.so")
    assert errors.startswith(f"rwpm-score: {TORCH}/lib/libc10.so: expected an operator library with rwpm_op_abi, got")
    (tmp_path / "text.so").write_text("no library")
    status, _, errors = score(*words, "--library", "text.so")
    assert (status, errors.count("\n")) == (1, 1)
    assert errors.startswith(f"rwpm-score: {tmp_path}/text.so: does not load: ")
    # Metadata that say nothing of a walk: the loader finds out.
    silent = with_metadata(package, tmp_path / "silent.pt2", rwpm_walk="")
    status, _, errors = score(silent, "a.png", "--out", "maps")
    missing = (
        f"calls the operator rwpm::walk, which no library has registered; those of rwpm are in librwpm_ops.so: {WHERE}"
    )
    assert (status, errors) == (1, f"rwpm-score: {silent}: {missing}\n")


@pytest.mark.slow
def test_finds_the_library_beside_the_package(score, package, photos, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    shutil.copy(package, folder)
    shutil.copy(library.LIBRARY, folder)
    status, _, errors = score(folder / package.name, photos[0], "--out", "maps", "--no-overlay")
    assert (status, errors) == (0, "")
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"{photos[0].stem}.npy"]


@pytest.mark.slow
def test_an_installed_program_finds_the_installed_library(programs, package, photos, tmp_path):
    subprocess.run(["cmake", "--install", programs, "--prefix", tmp_path, "--component", "runtime"], check=True)
    (libraries := tmp_path / "lib").mkdir(exist_ok=True)
    shutil.copy(library.LIBRARY, libraries)
    words = [tmp_path / "bin" / "rwpm-score", package, photos[0], "--out", tmp_path / "maps"]
    assert subprocess.run(words, capture_output=True, text=True).stderr == ""
    assert (tmp_path / "maps" / f"{photos[0].stem}.npy").exists()


@pytest.mark.slow
def test_files_that_are_no_exports(score, tmp_path):
    expected = "expected a package of rwpm-fast export NETWORK --format pt2, got another file"
    (tmp_path / "text.pt2").write_text("no package")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as file:
        file.writestr("readme", "no package")
    for name in ("text.pt2", "other.pt2"):
        status, _, errors = score(name, "a.png", "--out", "maps")
        assert (status, errors.count("\n")) == (1, 1)
        assert errors.startswith(f"rwpm-score: {name}: {expected} (")
    _, _, errors = score("no.pt2", "a.png", "--out", "maps")
    assert errors == "rwpm-score: no.pt2: cannot be read: No such file or directory\n"


@pytest.mark.slow
def test_a_photo_that_fails_stops_no_other(score, package, photos, tmp_path):
    Image.fromarray(np.zeros((63, 80, 3), np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no photo")
    status, told, errors = score(
        *(package, "no.png", "small.png", "black.png", "text.png", photos[0]),
        *("--out", "maps", "--library", library.LIBRARY, "--no-overlay"),
    )
    assert status == 1
    assert errors.splitlines() == [
        "rwpm-score: no.png: cannot be read: No such file or directory",
        "rwpm-score: small.png: photo: expected at least 64 pixels a side, got 80x63; enlarge it first",
        f"rwpm-score: black.png: {package}: expected finite scores, got 5120 of 5120 that are not",
        "rwpm-score: text.png: expected a photo as PNG, JPEG or binary PPM (P6), got another kind of file",
    ]
    assert told.startswith(f"{photos[0]}  maps/{photos[0].stem}.npy\n")
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"{photos[0].stem}.npy"]


@pytest.mark.slow
def test_command_lines_that_make_no_sense(score):
    assert score("--help")[1].startswith("usage: rwpm-score")
    status, _, errors = score("a.pt2", "--out", "maps")
    assert (status, errors) == (2, "rwpm-score: expected a package and at least one photo; see rwpm-score --help\n")


@pytest.mark.slow
def test_what_stands_beside_an_export(score, package, photos, tmp_path):
    photo = next(path for path in photos if path.suffix == ".ppm")
    score(package, photo, "--out", "maps", "--library", library.LIBRARY)
    wanted = np.load(tmp_path / "maps" / "map.npy")

    build = tmp_path / "build"
    subprocess.run(["cmake", "-S", TEMPLATES, "-B", build, f"-DTORCH_DIR={TORCH}"], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    words = [build / "example", package, library.LIBRARY, photo, tmp_path / "example.npy"]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    np.testing.assert_array_equal(np.load(tmp_path / "example.npy"), wanted)
    assert told.startswith(f"highest score {wanted.max():.6g} at row ")

    script = [sys.executable, TEMPLATES / "run_pt2.py", package, photo, "--out", tmp_path / "script"]
    subprocess.run([*script, "--library", library.LIBRARY], check=True, capture_output=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "script" / "map.npy"), wanted)
    files = (tmp_path / "maps" / "map_overlay.png", tmp_path / "script" / "map_overlay.png")
    pictures = [np.array(Image.open(file)).astype(int) for file in files]
    assert abs(pictures[0] - pictures[1]).max() <= 1  # one rule of colors, with other roundings


@pytest.fixture
def run_script(tmp_path, capsys):
    """Run run_pt2.py on metadata alone; its status and its line."""
    main = runpy.run_path(str(TEMPLATES / "run_pt2.py"))["main"]

    def run(*words, **changes):
        path = tmp_path / "model.pt2"
        with zipfile.ZipFile(path, "w") as file:
            metadata = {**METADATA, **{key.replace("_", ".", 1): value for key, value in changes.items()}}
            file.writestr("model/data/aotinductor/model/a.wrapper_metadata.json", json.dumps(metadata))
        status = main([str(path), "no.png", "--out", str(tmp_path / "maps"), *words])
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return status, line.removeprefix(f"run_pt2: {path}: ").rstrip()

    return run


def test_the_library_tells_the_abi_of_its_operator():
    assert ctypes.CDLL(str(library.LIBRARY)).rwpm_op_abi() == library.OP_ABI


def test_the_script_refuses_what_cannot_run_here(run_script, tmp_path, capsys):
    torch_line = f"was exported with torch 2.1.0, this is torch {torch.__version__}; export it again with this"
    assert run_script(rwpm_torch="2.1.0") == (1, torch_line)
    assert run_script(rwpm_format="2") == (1, "expected metadata rwpm.format 1, got 2: no export of it")
    missing = "no.so with its operators not found; pip install rwpm-fast has it"
    assert run_script("--library", "no.so") == (1, missing)
    (tmp_path / "text.pt2").write_text("no package")
    main = runpy.run_path(str(TEMPLATES / "run_pt2.py"))["main"]
    assert main([str(tmp_path / "text.pt2"), "no.png"]) == 1
    assert "text.pt2: expected an export of rwpm-fast, got another file (" in capsys.readouterr().err
