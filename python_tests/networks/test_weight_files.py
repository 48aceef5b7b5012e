"""What weight files hold, of every format, whole and damaged, harmless and not."""

from __future__ import annotations

import argparse
import json
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rwpm_fast.networks.checkpoint import read_state_dict


def small() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4)))


def same(got, wanted):
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(got[name], wanted[name]), name


@pytest.mark.parametrize("nested", [None, "model", "state_dict"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_torch_files(tmp_path, nested, zipped):
    state = small().state_dict()
    others = {"epoch": 3, "optimizer": {"lr": 0.1}, "mean_iu": np.float64(0.8), "n": np.int64(4), "command": "train"}
    others["arguments"] = argparse.Namespace(lr=0.1, sizes=[3, 4])
    content = state if nested is None else {nested: state, **others}
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    same(read_state_dict(path), state)


def test_npz(tmp_path):
    state = small().state_dict()
    np.savez(tmp_path / "w.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    same(read_state_dict(tmp_path / "w.npz"), state)


def test_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state, path = small().state_dict(), tmp_path / "w.safetensors"
    save_file(state, path)
    same(read_state_dict(path), state)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"expected a safetensors file, got .*w\.safetensors, which is none or is cut"):
        read_state_dict(path)


def test_safetensors_that_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(ImportError, match="needs safetensors: pip install safetensors"):
        read_state_dict(tmp_path / "w.safetensors")


def test_an_array_that_cannot_be_read_is_named(tmp_path):
    np.savez(tmp_path / "w.npz", good=np.zeros(3), bad=np.array([{}]), worse=np.array("text"))
    with pytest.raises(ValueError, match=r"arrays of .*w\.npz cannot be read: bad \(.*, worse \("):
        read_state_dict(tmp_path / "w.npz")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_torch_file_that_is_cut_short(tmp_path, zipped):
    path = tmp_path / "w.pth"
    torch.save({"model": nn.Linear(300, 300).state_dict()}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"expected a weight file .*, got .*w\.pth, which is none or is cut short"):
            read_state_dict(path)


@pytest.mark.parametrize("suffix", ["npz", "pth"])
def test_a_file_that_is_damaged(tmp_path, suffix):
    path, values = tmp_path / f"w.{suffix}", np.arange(1000, dtype=np.float32)
    if suffix == "npz":
        np.savez(path, good=values[:5], bad=values)
    else:
        torch.save({"good": torch.tensor(values[:5]), "bad": torch.tensor(values)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(values[500:510].tobytes())] ^= 1
    path.write_bytes(content)
    wanted = {
        "npz": r"arrays of .*w\.npz cannot be read: bad \(",
        "pth": r"w\.pth is damaged: the checksums of w/data/1",
    }
    with pytest.raises(ValueError, match=wanted[suffix]):
        read_state_dict(path)


def test_files_without_checksums(tmp_path):
    config = pytest.importorskip("torch.utils.serialization.config", reason="this torch always writes them")
    state = small().state_dict()
    with config.patch({"save.compute_crc32": False}):
        torch.save(state, tmp_path / "w.pth")
    same(read_state_dict(tmp_path / "w.pth"), state)


def test_files_that_are_no_weights(tmp_path):
    path = tmp_path / "w.pth"
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "text")
    contents = (b"text " * 99, b"\x89PNG\r\n\x1a\n" + bytes(99), (tmp_path / "a.npz").read_bytes())
    for content in (*contents, (tmp_path / "other.zip").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected a weight file"):
            read_state_dict(path)


class Danger:
    def __reduce__(self):
        return print, ("code of a file ran",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_code_in_a_file_is_not_run(tmp_path, capsys, zipped):
    content = {"model": {"a": torch.zeros(1)}, "danger": Danger()}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"holds objects besides tensors, .*weights_only=False"):
        read_state_dict(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds no tensors: expected a dict of them, at any depth, got a Tensor"),
        ({"epoch": 1, "teacher": {}}, "holds no tensors: .* got a dict with epoch, teacher$"),
        ({"model": {}}, "holds no tensors"),
        ({}, "holds no tensors"),
    ],
    ids=["tensor", "nothing nested", "empty model", "empty"],
)
def test_torch_file_without_tensors(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        read_state_dict(tmp_path / "w.pth")


def test_no_file(tmp_path):
    for suffix in ("npz", "pth", "safetensors"):
        with pytest.raises(FileNotFoundError, match=r"weights: expected a weight file, got .*nowhere"):
            read_state_dict(tmp_path / f"nowhere.{suffix}")
    with pytest.raises(IsADirectoryError, match=r"weights: expected a weight file, got .*: Is a directory"):
        read_state_dict(tmp_path)


FORMATS = {"npz": "an npz file", "safetensors": "a safetensors file", "pth": r"a file of torch\.save"}


def written(folder: Path, content: str) -> bytes:
    """A weight file of a format: that of a suffix, or "old" for torch before 1.6."""
    path, tensors = folder / f"written.{content}", {"a": torch.arange(3.0)}
    if content == "npz":
        np.savez(path, a=tensors["a"].numpy())
    elif content == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=content == "pth")
    return path.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [*FORMATS, "old"])
def test_a_suffix_of_another_format(tmp_path, suffix, content):
    is_format, path = content.replace("old", "pth"), tmp_path / f"w.{suffix}"
    path.write_bytes(written(tmp_path, content))
    if suffix == is_format:
        same(read_state_dict(path), {"a": torch.arange(3.0)})
        return
    text = (
        rf"expected a weight file that is {FORMATS[suffix]}, as its suffix says, got .*w\.{suffix}, which is "
        rf"{FORMATS[is_format]}; give it the suffix \.{is_format}$"
    )
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)


HUGE = 10**12  # numbers, which no file of the tests has


def npy(shape: tuple[int, ...], dtype: str = "<f4", numbers: int = 12) -> bytes:
    header = (repr({"descr": dtype, "fortran_order": False, "shape": shape}) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(4 * numbers)


def write_npz(path: Path, array: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.npy", array)


def write_torch(path: Path, old: bytes, new: bytes, occurrence: int | None = None, zipped: bool = True) -> None:
    """A file of a tensor of 258 numbers, with bytes of its pickle replaced: all, or one occurrence."""
    torch.save({"a": torch.zeros(258)}, path, _use_new_zipfile_serialization=zipped)

    def changed(content: bytes) -> bytes:
        parts = content.split(old)
        assert len(parts) > 1
        if occurrence is None:
            return new.join(parts)
        return old.join(parts[: occurrence + 1]) + new + old.join(parts[occurrence + 1 :])

    if not zipped:
        path.write_bytes(changed(path.read_bytes()))
        return
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, changed(content) if name.endswith("data.pkl") else content)


def write_safetensors(path: Path, shape: list[int], end: int) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(48))


BININT2, LONG1 = b"M\x02\x01", b"\x8a\x06" + HUGE.to_bytes(6, "little")  # 258 and 10^12 in a pickle

# Files whose headers promise numbers that are not there, with what is said of them.
PROMISES = {
    "array.npz": (lambda path: write_npz(path, npy((HUGE,))), "a .its header promises 4000000000000 bytes"),
    "matrix.npz": (lambda path: write_npz(path, npy((HUGE, HUGE))), "a .its header promises 4000000000000000000000000"),
    "texts.npz": (lambda path: write_npz(path, npy((HUGE,), "<U9")), "a .its header promises 36000000000000 bytes"),
    "objects.npz": (lambda path: write_npz(path, npy((HUGE,), "|O")), "a .its header promises 8000000000000 bytes"),
    "negative.npz": (lambda path: write_npz(path, npy((-HUGE,))), "arrays of .* cannot be read: a "),
    "empty.npz": (lambda path: write_npz(path, npy((0, 10**30))), "arrays of .* cannot be read: a "),
    "compressed.npz": (
        lambda path: write_npz(path, npy((HUGE,), numbers=10**6), zipfile.ZIP_DEFLATED),
        "a .its header promises 4000000000000 bytes of numbers, the file has 4000000",
    ),
    "all.pth": (lambda path: write_torch(path, BININT2, LONG1), "promises 1000000000000 numbers, in a file of"),
    "storage.pth": (lambda path: write_torch(path, BININT2, LONG1, 0), "promises 1000000000000 numbers, in a file of"),
    "shape.pth": (lambda path: write_torch(path, BININT2, LONG1, 1), "none or is cut short .*(resize|out of bounds)"),
    "old.pth": (
        lambda path: write_torch(path, BININT2, LONG1, zipped=False),
        "promises 1000000000000 numbers, in a file of",
    ),
    "old_section.pth": (
        lambda path: write_torch(path, (258).to_bytes(8, "little"), HUGE.to_bytes(8, "little"), zipped=False),
        "wrong byte size",
    ),
    "array.safetensors": (lambda path: write_safetensors(path, [HUGE], 4 * HUGE), "expected a safetensors file"),
    "shape.safetensors": (lambda path: write_safetensors(path, [HUGE], 48), "expected a safetensors file"),
    "header.safetensors": (
        lambda path: path.write_bytes(struct.pack("<Q", HUGE) + b"{}"),
        "expected a safetensors file",
    ),
}


@pytest.mark.parametrize("name", PROMISES)
def test_headers_that_promise_more_than_there_is(tmp_path, name):
    write, message = PROMISES[name]
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    write(tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as error:
            read_state_dict(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 2e7  # NumPy's arrays are counted before they are touched
    finally:
        tracemalloc.stop()


MATRIX = torch.arange(16.0).view(4, 4)

# What torch.save takes and no network holds.
KINDS = {
    "meta": (lambda: MATRIX.to("meta"), "a meta tensor, which has a shape and no numbers"),
    "nested": (lambda: torch.nested.nested_tensor([MATRIX[0], MATRIX[:2, 0]]), "a nested tensor"),
    "sparse": (lambda: MATRIX.to_sparse(), r"sparse \(sparse_coo\)"),
    "empty sparse": (lambda: torch.sparse_coo_tensor(size=(HUGE, 9)), r"sparse \(sparse_coo\)"),
    "sparse rows": (lambda: MATRIX.to_sparse_csr(), r"sparse \(sparse_csr\)"),
    "sparse columns": (lambda: MATRIX.to_sparse_csc(), r"sparse \(sparse_csc\)"),
    "sparse blocks": (lambda: MATRIX.to_sparse_bsr((2, 2)), r"sparse \(sparse_bsr\)"),
    "quantized": (lambda: torch.quantize_per_tensor(MATRIX, 0.1, 0, torch.qint8), "quantized"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, of kinds that are not stable
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensors_that_are_no_plain_arrays(tmp_path, kind):
    tensor, text = KINDS[kind]
    torch.save({"model": {"weight": tensor(), "bias": torch.zeros(4)}}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"expected plain arrays of numbers in .*w\.pth, but weight is {text}$"):
        read_state_dict(tmp_path / "w.pth", ["weight", "bias"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kinds_in_entries_that_are_not_read_do_no_harm(tmp_path, kind):
    state = {"weight": MATRIX, "bias": torch.zeros(4)}
    torch.save(
        {"model": state | {"total_ops": KINDS[kind][0]()}, "optimizer": {"moment": KINDS[kind][0]()}},
        tmp_path / "w.pth",
    )
    same(read_state_dict(tmp_path / "w.pth", ["weight", "bias"]), state)


VIEWS = {
    "negated": torch._neg_view(MATRIX),
    "imaginary": torch.complex(-MATRIX, MATRIX).conj().imag,
    "transposed": MATRIX.T.contiguous().T,
    "expanded": torch.ones(1, 1).expand(4, 4),
    "parameter": nn.Parameter(MATRIX),
    "bytes": MATRIX.to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_views_are_read_as_what_they_show(tmp_path, kind):
    torch.save({"a": VIEWS[kind]}, tmp_path / "w.pth")
    assert torch.equal(read_state_dict(tmp_path / "w.pth")["a"].float(), VIEWS[kind].detach().float())
