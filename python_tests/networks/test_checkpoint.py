"""Loading weights into a network: all or nothing, and all that people save around them."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rwpm_fast import networks
from rwpm_fast.cli import main
from rwpm_fast.networks import CompactNet, DABNet, DeepLabWRN38
from rwpm_fast.networks.checkpoint import check_finite, load_state, read_state_dict


def small() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4)))


def fit(state, network=None):
    load_state(network or small(), state, name="small", path="w.pth")


def same(got, wanted):
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(got[name], wanted[name]), name


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


# Wrappers of torch, optimizers, profilers and trainers: what they make of a state dict. The first ones keep it flat.


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def inside(state: dict[str, Tensor], wrapper: str) -> dict[str, Tensor]:
    """Put a wrapper around the first module of the network, such as a backbone."""
    first = next(iter(state)).partition(".")[0] + "."
    return {re.sub(f"^{re.escape(first)}", first + wrapper, name): tensor for name, tensor in state.items()}


def counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    counters = {name.rpartition(".")[0] + ".num_batches_tracked" for name in state if name.endswith("running_mean")}
    return {counter: torch.tensor(1) for counter in counters or {"norm.num_batches_tracked"}} | state


def profiled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    modules = {name.rpartition(".")[0] + "." for name in state} | {""}
    counts = {f"{module}total_{what}": torch.zeros(1).double() for module in modules for what in ("ops", "params")}
    return state | counts


FLAT = {
    "bare": dict,
    "data parallel": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "parallel, then compiled": lambda state: prefixed(state, "_orig_mod.module."),
    "compiled, then parallel": lambda state: prefixed(state, "module._orig_mod."),
    "a part compiled": lambda state: inside(state, "_orig_mod."),
    "a part parallel, the whole compiled": lambda state: prefixed(inside(state, "module."), "_orig_mod."),
    "a part recomputed": lambda state: inside(state, "_checkpoint_wrapped_module."),
    "below model": lambda state: prefixed(state, "model."),
    "below net, parallel": lambda state: prefixed(state, "module.net."),
    "below a name of one's own": lambda state: prefixed(state, "segmenter.student_2."),
    "with slashes": lambda state: prefixed(state, "model/"),
    "counters of batches": counted,
    "a profiler's counts": profiled,
    "a profiler's counts, parallel": lambda state: prefixed(profiled(state), "module."),
    "weights of a loss": lambda state: (
        prefixed(state, "model.") | {"criterion.weight": torch.ones(19), "loss_fn.ce.weight": torch.ones(19)}
    ),
    "averaged": lambda state: prefixed(state, "module.") | {"n_averaged": torch.tensor(5)},
}
KEYS = (
    *("model", "state_dict", "model_state_dict", "net", "network", "model_state", "ema", "state_dict_ema", "weights"),
    "a name of one's own",
)
OPTIMIZER = {
    "state": {i: {"momentum_buffer": torch.zeros(9), "step": torch.tensor(3.0)} for i in range(3)},
    "param_groups": [{"lr": 0.1, "params": [0, 1, 2]}],
}
NESTED = {
    **{f"under {key}": lambda state, key=key: {key: state} for key in KEYS},
    "trained": lambda state: {"epoch": 3, "optimizer": OPTIMIZER, "model_state_dict": prefixed(state, "module.")},
    "lightning": lambda state: {
        "pytorch-lightning_version": "2.5.0",
        "callbacks": {"best": {"score": torch.tensor(0.8)}},
        "optimizer_states": [OPTIMIZER],
        "state_dict": prefixed(state, "net.") | {"criterion.weight": torch.ones(19)},
    },
    "detectron2": lambda state: {"model": state, "iteration": 7, "optimizer": OPTIMIZER},
    "arguments": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, sizes=[1, 2])},
    "NumPy numbers": lambda state: {"state_dict": state, "mean_iu": np.float64(0.8), "epoch": np.int64(3)},
    "one dictionary twice": lambda state: {"model": state, "state_dict": state},
    "two levels": lambda state: {"checkpoint": {"model": state, "epoch": 3}},
    "in a list": lambda state: {"models": [prefixed(state, "module.")]},
    "a tuple": lambda state: (3, state),
}


def mask_networks():
    return pytest.importorskip(
        "python_tests.networks.test_mask2former", exc_type=pytest.skip.Exception, reason="needs transformers and SciPy"
    )


class Subject:
    """A network of random weights, its state in the layout of its files, and how it is loaded."""

    def __init__(self, network: networks.Network) -> None:
        self.network = network
        self.load = type(network).load

    def state(self) -> dict[str, Tensor]:
        return dict(self.network.state_dict())

    def write(self, state: object, folder: Path, suffix: str) -> Path:
        return save(state, folder / f"w.{suffix}")


def save(state: object, path: Path) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    elif path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        torch.save(state, path)
    return path


class NarrowDeepLab(DeepLabWRN38):
    def __init__(self, outputs: int = 20, width: int = 4) -> None:
        super().__init__(outputs, width)

    @classmethod
    def load(cls, weights, **settings):
        return super().load(weights, width=4, **settings)


class Detectron2Subject(Subject):
    """A network whose files have the layout of detectron2."""

    def state(self) -> dict[str, Tensor]:
        from rwpm_fast.networks.detectron2 import Detectron2State

        return Detectron2State(self.network.model).state_dict()


class FolderSubject(Subject):
    """A network of transformers, whose files are a folder's."""

    def write(self, state: object, folder: Path, suffix: str) -> Path:
        self.network.model.config.save_pretrained(folder)
        save(state, folder / {"pth": "pytorch_model.bin", "safetensors": "model.safetensors"}[suffix])
        return folder

    def state(self) -> dict[str, Tensor]:
        return {name.removeprefix("model."): tensor for name, tensor in self.network.state_dict().items()}


SUBJECTS = {
    "compact": lambda: Subject(CompactNet()),
    "dabnet": lambda: Subject(DABNet()),
    "deeplab": lambda: Subject(NarrowDeepLab()),
    "rba": lambda: Detectron2Subject(mask_networks().SmallRbA()),
    "mask2anomaly": lambda: Detectron2Subject(mask_networks().SmallMask2Anomaly()),
    "mask2former": lambda: FolderSubject(mask_networks().standard()),
}


@cache
def subject(name: str) -> Subject:
    torch.manual_seed(0)
    return SUBJECTS[name]()


def pairs():
    """Every network with every wrapping, of which the fast tests take a quarter: some of each."""
    for i, name in enumerate(SUBJECTS):
        for j, wrapping in enumerate(FLAT | NESTED):
            yield pytest.param(name, wrapping, marks=[pytest.mark.slow] if (i + j) % 4 else [])


@pytest.mark.parametrize(("name", "wrapping"), pairs())
def test_every_network_out_of_every_wrapping(tmp_path, name, wrapping):
    original = subject(name)
    content = (FLAT | NESTED)[wrapping](original.state())
    loaded = original.load(original.write(content, tmp_path, "pth"))
    assert not loaded.training
    got = loaded.state_dict()
    for entry in ("weight", "bias"):  # of a norm that transformers makes and nothing calls
        got.pop(f"model.model.pixel_level_module.encoder.swin.layernorm.{entry}", None)
    same(got, original.network.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        torch.optim.swa_utils.AveragedModel,
        lambda network: torch.compile(nn.DataParallel(network)),
        lambda network: nn.DataParallel(torch.compile(network)),
        lambda network: nn.ModuleDict({"student": network}),
    ],
    ids=["parallel", "compiled", "averaged", "parallel, compiled", "compiled, parallel", "a module of a module"],
)
def test_what_the_wrappers_of_torch_save(tmp_path, wrap):
    network = DABNet()
    torch.save({"model_state_dict": wrap(network).state_dict(), "epoch": 3}, tmp_path / "w.pth")
    same(networks.load("dabnet", tmp_path / "w.pth").state_dict(), network.state_dict())


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("wrapping", FLAT)
def test_every_format_out_of_every_flat_wrapping(tmp_path, suffix, wrapping):
    original = subject("dabnet")
    same(
        original.load(original.write(FLAT[wrapping](original.state()), tmp_path, suffix)).state_dict(),
        original.network.state_dict(),
    )


def filled(number: float, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: torch.full_like(tensor, number) for name, tensor in small().state_dict().items()}


# Files that hold two sets of weights, of ones and of twos, with the keys of both.
TWO_SETS = {
    "averaged besides": ({"model": filled(1), "ema": filled(2)}, "model", "ema"),
    "averaged inside": ({"state_dict": filled(1) | {"ema": filled(2)}}, "state_dict", "state_dict/ema"),
    "averaged without counters": (
        {"model": filled(1), "ema": {name: t for name, t in filled(2).items() if "num_" not in name}},
        *("model", "ema"),
    ),
    "levels": (
        {"checkpoint": {"model": filled(1), "model_ema": prefixed(filled(2), "module.")}},
        *("checkpoint/model", "checkpoint/model_ema"),
    ),
    "prefixes": (
        {"state_dict": filled(1, "student.") | filled(2, "teacher.")},
        *("state_dict/student.", "state_dict/teacher."),
    ),
    "a list": ({"models": [filled(1), filled(2)]}, "models/0", "models/1"),
    "flat": (filled(1, "net_a.") | filled(2, "net_b."), "net_a.", "net_b."),
}


@pytest.mark.parametrize("kind", TWO_SETS)
def test_several_sets_of_weights_are_named_and_chosen_from(tmp_path, kind):
    content, *keys = TWO_SETS[kind]
    torch.save(content, tmp_path / "w.pth")
    names, listing = list(small().state_dict()), ", ".join(keys)
    with pytest.raises(ValueError, match=rf"w\.pth holds 2 sets of tensors .*: {listing}; choose one by weights_key"):
        read_state_dict(tmp_path / "w.pth", names)
    for number, key in enumerate(keys, 1):
        for spelling in {key, key.rstrip(".")}:
            state = read_state_dict(tmp_path / "w.pth", names, weights_key=spelling)
            load_state(network := small(), state, name="small", path="w.pth")
            assert all((tensor == number).all() for name, tensor in network.state_dict().items() if "num_" not in name)
    with pytest.raises(ValueError, match=rf"weights_key: expected one of .*w\.pth, {listing}, got 'teacher/model'$"):
        read_state_dict(tmp_path / "w.pth", names, weights_key="teacher/model")


def test_wrappers_that_tell_two_sets_apart(tmp_path):
    torch.save(filled(1) | filled(2, "module."), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"holds 2 sets of tensors that may be meant: /, module\.; choose"):
        read_state_dict(tmp_path / "w.pth", small().state_dict())
    same(read_state_dict(tmp_path / "w.pth", small().state_dict(), weights_key="module."), filled(2))


def test_weights_that_fit_are_taken_and_not_others(tmp_path):
    """A set that has most of the names is the network's, wherever it is."""
    other = {f"layers.{i}.weight": torch.zeros(9) for i in range(50)}
    part = {name: tensor for name, tensor in filled(2).items() if name.startswith("conv")}
    torch.save({"model": other, "teacher": filled(1), "momentum": part}, tmp_path / "w.pth")
    same(read_state_dict(tmp_path / "w.pth", small().state_dict()), filled(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            filled(1, "module.") | {"norm.bias": torch.zeros(4)},
            r"module\.norm\.bias and norm\.bias are both norm\.bias",
        ),
        (filled(1, "model.") | {"norm.bias": torch.zeros(4)}, r"model\.norm\.bias and norm\.bias are both norm\.bias"),
        (filled(1, "model.") | {"head.weight": torch.zeros(4)}, r"does not fit small: unexpected: head\.weight$"),
        (filled(1, "model.") | {"model.head.weight": torch.zeros(4)}, r"fit small: unexpected: head\.weight$"),
        ({"model": filled(1, "a.") | {"a.norm.bias": torch.zeros(5)}}, r"mismatched: norm\.bias has shape \[5\]"),
    ],
    ids=["twice", "twice below a prefix", "outside the prefix", "below the prefix", "shape"],
)
def test_what_does_not_fit_is_refused_in_wrappings_too(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        load_state(
            small(), read_state_dict(tmp_path / "w.pth", small().state_dict()), name="small", path=tmp_path / "w.pth"
        )


def test_a_key_of_a_prefix_leaves_out_what_is_not_below_it(tmp_path):
    torch.save({"state_dict": filled(1, "model.") | {"head.weight": torch.zeros(4)}}, tmp_path / "w.pth")
    state = read_state_dict(tmp_path / "w.pth", small().state_dict(), weights_key="state_dict/model.")
    same(state, filled(1))


def test_a_network_with_a_module_called_module(tmp_path):
    network = nn.Sequential(OrderedDict(module=nn.Conv2d(3, 4, 1)))
    for prefix in ("", "module.", "_orig_mod."):
        torch.save(prefixed(network.state_dict(), prefix), tmp_path / "w.pth")
        same(read_state_dict(tmp_path / "w.pth", network.state_dict()), network.state_dict())


def test_entries_of_a_loss_that_the_network_has_are_read(tmp_path):
    network = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1), loss=nn.Linear(2, 2)))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    same(read_state_dict(tmp_path / "w.pth", network.state_dict()), network.state_dict())


def test_weights_key_of_the_command_line(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("tqdm")
    image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    plain, averaged = CompactNet.load().state_dict(), {k: v / 2 for k, v in CompactNet.load().state_dict().items()}
    torch.save({"model": plain, "ema": averaged}, tmp_path / "w.pth")
    words = ["score", str(tmp_path / "a.png"), "--weights", str(tmp_path / "w.pth"), "--no-panel", "--steps", "1"]
    assert main([*words, "--out", str(tmp_path)]) == 2
    assert "holds 2 sets of tensors that may be meant: model, ema; choose one by weights_key" in capsys.readouterr().err
    maps = {}
    for key in ("model", "ema"):
        assert main([*words, "--out", str(tmp_path / key), "--weights-key", key]) == 0
        maps[key] = np.load(tmp_path / key / "a.npy")
    assert np.abs(maps["model"] - maps["ema"]).max() > 0.1
    assert main([*words[:2], "--no-panel", "--out", str(tmp_path), "--weights-key", "ema"]) == 2
    assert "weights_key: expected with a file of weights only, got 'ema' without one" in capsys.readouterr().err


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_modules_with_weights_that_are_not_finite(value, dtype):
    network = small()
    network.norm.num_batches_tracked.fill_(3)
    check_finite(network, "small")
    network.conv.weight.data[1, 2] = value
    network.conv.to(dtype)
    with pytest.raises(ValueError, match=r"^weights: small has entries that are not finite: conv\.weight$"):
        check_finite(network, "small")


def test_buffers_may_mask_by_infinity_and_hold_no_nan():
    network = small()
    network.register_buffer("mask", torch.tensor([0, -torch.inf]), persistent=False)
    check_finite(network, "small")
    network.norm.running_var[2] = torch.nan
    with pytest.raises(ValueError, match=r"not finite: norm\.running_var$"):
        check_finite(network, "small")
