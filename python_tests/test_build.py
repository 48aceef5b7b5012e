"""What setup.py tells of a build without torch: in its version, since pip shows nothing else, and at its end."""

import importlib.metadata
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "setup.py"

setuptools = pytest.importorskip("setuptools")


def versions(torch):
    """Of the distributions in an environment that has this torch, or none."""

    def version(name):
        if name != "torch" or torch is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return torch

    return version


@pytest.mark.parametrize(
    ("torch", "command", "label"),
    [
        ("2.11.0", "bdist_wheel", ""),
        ("2.13.0+cpu", "bdist_wheel", ""),
        ("3.0.0a0+git1", "editable_wheel", ""),
        (None, "bdist_wheel", "+plain.torch"),
        (None, "dist_info", "+plain.torch"),
        (None, "editable_wheel", "+plain.torch"),
        ("2.10.1", "bdist_wheel", "+plain.torch"),
        (None, "sdist", ""),
    ],
)
def test_the_version_tells_that_operators_are_missing(monkeypatch, torch, command, label):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **settings: given.update(settings))
    monkeypatch.setattr(importlib.metadata, "version", versions(torch))
    monkeypatch.setattr(sys, "argv", ["setup.py", command])
    runpy.run_path(str(SETUP))
    from rwpm_fast import __version__

    assert given["version"] == __version__ + label


@pytest.mark.parametrize("torch", ["2.13.0+cpu", None])
def test_the_end_of_a_build_tells_that_operators_are_missing(monkeypatch, capsys, tmp_path, torch):
    ran = []
    monkeypatch.setattr(importlib.metadata, "version", versions(torch))
    monkeypatch.setattr(setuptools, "setup", lambda **settings: ran.append(settings))
    monkeypatch.setattr(subprocess, "run", lambda words, check: print("cmake", file=sys.stderr))
    runpy.run_path(str(SETUP))
    settings = ran.pop()
    command = settings["cmdclass"]["build_ext"](setuptools.Distribution({"ext_modules": settings["ext_modules"]}))
    command.build_lib = command.build_temp = str(tmp_path)
    command.ensure_finalized()
    command.run()
    words = capsys.readouterr().err.splitlines()
    assert ("WITHOUT its compiled operators" in words[-2]) if torch is None else (words[-1] == "cmake")
    assert torch is not None or words[-1].endswith("pip install --no-build-isolation .")


def test_files_that_are_no_code_are_built_in(tmp_path):
    command = [sys.executable, str(SETUP), "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=SETUP.parent, check=True, capture_output=True)
    built = tmp_path / "rwpm_fast"
    source = SETUP.parent / "rwpm_fast"
    for folder in ("deploy/templates", "serve/page"):
        names = {path.name for path in (source / folder).iterdir() if path.is_file()}
        assert names and names == {path.name for path in (built / folder).iterdir() if path.is_file()}, folder
    assert (built / "networks/compact.npz").exists() and (built / "py.typed").exists()
