"""Packages of AOTInductor: what cannot be made or loaded is told, and what is made equals eager torch."""

import json
import zipfile

import pytest
import torch

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.deploy import pt2
from rwpm_fast.deploy.errors import ExportError, reason_of
from rwpm_fast.deploy.metadata import Metadata
from rwpm_fast.deploy.pt2 import default_cpu, export_pt2, load_pt2
from rwpm_fast.ops import library

STRINGS = Metadata.of(Scorer(TinyNetwork()), cpu=default_cpu()).to_strings()
ENTRY = "model/data/aotinductor/model/a.wrapper_metadata.json"


@pytest.fixture
def package(tmp_path):
    """Writes a package of metadata alone."""

    def write(content=None, entries=(ENTRY,), **changes):
        path = tmp_path / "model.pt2"
        strings = {**STRINGS, **{key.replace("_", ".", 1): value for key, value in changes.items()}}
        with zipfile.ZipFile(path, "w") as archive:
            for entry in entries:
                archive.writestr(entry, json.dumps(strings) if content is None else content)
        return path

    return write


def refused(path):
    """What loading a file tells, without its path; one line."""
    with pytest.raises(ExportError) as told:
        load_pt2(path)
    message = str(told.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_what_cannot_run_here_is_told(package, monkeypatch):
    here = torch.__version__
    minor = ".".join(here.split(".")[:2])
    for version in ("2.1.0", "2.1", "2.1.0a0+git1.2.3"):
        text = f"made by torch {version}, and this is torch {here}; export it again with this torch, or run it with "
        assert refused(package(rwpm_torch=version)) == f"{text}torch 2.1"
    assert refused(package(rwpm_torch=f"{minor}.99+cu130")).startswith(f"torch {here} cannot load it: ")
    assert refused(package(rwpm_op_abi="7")).startswith("expected a file for operators of ABI 1, got one for ABI 7; ")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    text = "compiled for x86-64-v3, which this processor lacks (torch finds DEFAULT); export it for this processor"
    assert refused(package(rwpm_cpu="x86-64-v3")) == text


@pytest.mark.parametrize("walk", ["", "{}"])
def test_every_package_needs_the_library(package, monkeypatch, walk):
    monkeypatch.setattr(library, "unsupported_reason", lambda: "librwpm_ops.so is not built; build it")
    text = "calls operators of librwpm_ops.so, which does not load: librwpm_ops.so is not built; build it"
    assert refused(package(rwpm_walk=walk)) == text


def test_what_is_no_package_is_told(package, tmp_path):
    kind = "expected a package of AOTInductor, got another kind of file"
    assert refused(package(entries=())) == kind
    assert refused(package(entries=(ENTRY, f"other/{ENTRY}"))) == kind
    assert refused(package("{}")) == "expected an export of rwpm-fast, got a file without its metadata"
    assert refused(package("[1]")) == "expected an export of rwpm-fast, got a file without its metadata"
    assert refused(package("{")).startswith("its metadata is broken (")
    assert refused(package(b"\xff\xfe")).startswith("its metadata is broken (")
    cut = package()
    cut.write_bytes(cut.read_bytes()[:-30])
    assert refused(cut).startswith(f"{kind} (")
    assert refused(tmp_path) == f"{kind} (Is a directory)"
    with pytest.raises(FileNotFoundError):
        load_pt2(tmp_path / "missing.pt2")


def test_what_torch_cannot_load_is_told(package):
    assert refused(package()).startswith(f"torch {torch.__version__} cannot load it: ")


def test_what_does_not_compile_is_told(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError(
            "\x1b[31mC++ compile error\x1b[0m\n\nCommand:\ng++ a.cpp\n\nOutput:\na.cpp:1: error: no such"
        )

    monkeypatch.setattr(pt2, "check_compiler", lambda: None)
    monkeypatch.setattr(pt2, "trace", lambda module, photo: (None, 64))
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
    photo = torch.zeros(64, 64, 3, dtype=torch.uint8)
    with pytest.raises(ExportError, match=r"^module: torch \S+ does not compile it: a.cpp:1: error: no such$"):
        export_pt2(torch.nn.Identity(), photo, tmp_path / "a.pt2", metadata=STRINGS)


def test_reasons_are_those_of_the_first_cause():
    first = ValueError("\n\x1b[1mno function\x1b[0m for x\nmore")
    second = RuntimeError("Failed to convert")
    second.__cause__ = first
    assert reason_of(second) == "no function for x"
    assert reason_of(KeyboardInterrupt()) == "KeyboardInterrupt"
