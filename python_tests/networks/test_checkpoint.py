from __future__ import annotations

import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from rwpm_fast.networks import DABNet
from rwpm_fast.networks.checkpoint import load_state, read_state_dict, strip_prefixes


def small() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4)))


def fit(state, network=None):
    load_state(network or small(), state, name="small", path="w.pth")


def same(got, wanted):
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(got[name], wanted[name]), name


@pytest.mark.parametrize("nested", [None, "model", "state_dict"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_torch_files(tmp_path, nested, zipped):
    state = small().state_dict()
    others = {"epoch": 3, "optimizer": {"lr": 0.1}, "mean_iu": np.float64(0.8), "n": np.int64(4), "command": "train"}
    content = state if nested is None else {nested: state, **others}
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    same(read_state_dict(path), state)


def test_the_first_key_that_is_there_counts(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "teacher": {"b": torch.ones(1)}}, path)
    same(read_state_dict(path, keys=("ema", "teacher", "state_dict")), {"b": torch.ones(1)})


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


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"model": {"a": torch.zeros(1)}, "danger": Danger()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"holds objects besides tensors, .*weights_only=False"):
        read_state_dict(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "expected a dict of tensors in .*, by itself or under 'model' or 'state_dict', got Tensor"),
        ({"epoch": 1, "teacher": {}}, "but epoch, teacher hold none"),
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


def test_prefixes_are_stripped_however_they_are_stacked():
    a, b = torch.zeros(1), torch.ones(1)
    assert strip_prefixes({"module.branch1.a": a, "b": b}) == {"a": a, "b": b}
    assert strip_prefixes({"model.module.a": a, "modules.b": b}) == {"a": a, "modules.b": b}
    assert strip_prefixes({"net.module.a": a}, ["net."]) == {"module.a": a}


def test_two_names_that_become_one():
    with pytest.raises(ValueError, match=r"module\.a and a are both a without their prefixes"):
        strip_prefixes({"module.a": torch.zeros(1), "a": torch.ones(1)})


def test_half_and_double_precision_are_cast():
    state = {name: t.double() if t.is_floating_point() else t for name, t in small().state_dict().items()}
    network = small()
    fit(state | {"conv.weight": state["conv.weight"].half()}, network)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert torch.equal(network.conv.weight, state["conv.weight"].half().float())


def test_counters_may_be_missing():
    network, state = small(), small().state_dict()
    network.norm.num_batches_tracked.fill_(7)
    del state["norm.num_batches_tracked"]
    fit(state, network)
    same(network.state_dict(), state | {"norm.num_batches_tracked": torch.tensor(0)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv.weight": None, "norm.bias": None}, r"does not fit small: missing: conv\.weight, norm\.bias$"),
        ({"extra": torch.zeros(1)}, r"unexpected: extra$"),
        ({"conv.bias": torch.zeros(5)}, r"mismatched: conv\.bias has shape \[5\], expected \[4\]$"),
        ({"conv.bias": torch.zeros(4, dtype=torch.int64)}, r"conv\.bias holds int64, expected floating point$"),
        ({"norm.num_batches_tracked": torch.tensor(1.0)}, r"tracked holds float32, expected integers$"),
        ({"norm.bias": torch.tensor([0, 1, torch.nan, 2])}, r"norm\.bias has entries that are not finite$"),
        ({"norm.bias": torch.full((4,), torch.inf)}, r"norm\.bias has entries that are not finite$"),
        ({"norm.bias": torch.full((4,), 1e300, dtype=torch.float64)}, r"norm\.bias has entries that are not finite$"),
        (
            {"conv.bias": None, "b": torch.zeros(1), "norm.bias": torch.zeros(1)},
            r"missing: .*; unexpected: b; mismatched: ",
        ),
    ],
)
def test_all_fits_or_nothing_is_loaded(change, message):
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = {name: torch.full_like(tensor, 3) for name, tensor in before.items()} | change
    with pytest.raises(ValueError, match=message):
        fit({name: tensor for name, tensor in state.items() if tensor is not None}, network)
    same(network.state_dict(), before)


def test_long_lists_are_cut():
    with pytest.raises(ValueError, match=r"unexpected: x0, x1, x2, x3, x4 and 5 more$"):
        fit(small().state_dict() | {f"x{i}": torch.zeros(1) for i in range(10)})


def test_weights_of_another_network():
    other = {f"backbone.{i}.weight": torch.zeros(3) for i in range(7)}
    with pytest.raises(
        ValueError, match=r"w\.pth holds .* another network: it has 0 of the 7 entries of small, and besides"
    ):
        fit(other)


def test_fewer_than_half_of_the_entries_are_another_network_only_beside_others():
    state = {name: small().state_dict()[name] for name in ("conv.weight", "conv.bias", "norm.bias")}
    with pytest.raises(ValueError, match=r"does not fit small: missing: norm\.weight"):
        fit(state)
    text = r"it has 3 of the 7 entries of small, and besides extra; choose the network that they are of$"
    with pytest.raises(ValueError, match=text):
        fit(state | {"extra": torch.zeros(1)})


def test_networks_load_torch_files(tmp_path):
    state = DABNet().state_dict()
    torch.save(state, tmp_path / "dabnet.pth")
    same(DABNet.load(tmp_path / "dabnet.pth").state_dict(), state)
