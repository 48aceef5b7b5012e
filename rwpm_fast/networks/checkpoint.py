"""Find a network's tensors in a weight file, whatever was saved around them, and load them: every entry fits, or
nothing is loaded."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..io.files import atomic_write
from ..io.text import listed
from .weight_files import read_weight_file

# Modules that torch puts around a network or a part of it: data parallel, compiled, sharded, recomputed.
_WRAPPER = re.compile(r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

# Entries that inference never reads, of any network: counters of batches, of a profiler (thop) and of averaged
# weights, and whatever belongs to a loss.
_UNREAD = re.compile(r"(?<![^.])(?:(?:num_batches_tracked|total_ops|total_params|n_averaged)$|(?:criterion|loss)\w*\.)")

_CONTAINERS = (Mapping, list, tuple)


def is_counter(entry: str) -> bool:
    """Whether an entry is a batch norm's count of batches, which older files lack."""
    return entry.rpartition(".")[-1] == "num_batches_tracked"


def is_unread(entry: str, unread: re.Pattern[str] | None = None) -> bool:
    """Whether an entry is one that inference never reads.

    Args:
        entry: name of a tensor.
        unread: found in the names of those that a certain layout has besides the usual ones.
    """
    return bool(_UNREAD.search(entry) or (unread and unread.search(entry)))


def read_state_dict(
    path: str | PathLike[str],
    names: Iterable[str] = (),
    *,
    weights_key: str | None = None,
    unread: re.Pattern[str] | None = None,
) -> dict[str, Tensor]:
    """Read the named tensors of a weight file, on the CPU, in the dtypes they are stored in.

    The format follows from the suffix: ``.npz``, ``.safetensors`` (if that package is installed), anything else is
    read as ``torch.save`` writes it. Nothing in a file is executed: pickled objects other than tensors, containers and
    numbers are refused. Tensors of a torch file may be mapped from the file: they are read when used.

    The tensors may be anywhere in a torch file, beside an optimizer's state or other things, and under a prefix that
    they share. Those are taken whose names, without the prefix and without the wrappers ``module``, ``_orig_mod`` and
    the like, are most of ``names``. Other entries are left out if inference never reads them.

    Args:
        path: weight file.
        names: entries of the network's ``state_dict``; none to take all tensors of the file.
        weights_key: which of several sets of tensors to take: its place in the file, such as ``ema``,
            ``checkpoint/model`` or, for a prefix, ``state_dict/student.``; None where one fits alone.
        unread: found in the names of further entries to leave out.

    Returns:
        Tensors by name, under ``names`` where they are those.

    Raises:
        OSError: there is no such file (``FileNotFoundError``), or it cannot be opened.
        ImportError: a ``.safetensors`` file without that package.
        ValueError: the file is of another format, is cut short or damaged, promises more numbers than it has, or holds
            no tensors, or none that are plain arrays of numbers; or several sets of them fit, or none is at
            ``weights_key``.

    Example:
        >>> read_state_dict("model_best.pth", network.state_dict(), weights_key="ema")
    """
    path = Path(path)
    content = read_weight_file(path)
    wanted = {_WRAPPER.sub("", name): name for name in names}
    found = [part for place, tensors in _tensors(content) for part in _parts(place, tensors, wanted)]
    if not found:
        entries = f" with {listed(content)}" if isinstance(content, Mapping) and content else ""
        got = f"a {type(content).__name__}{entries}"
        raise ValueError(f"weights: {path} holds no tensors: expected a dict of them, at any depth, got {got}")
    chosen = _chosen(found, weights_key, sum(not is_unread(name) for name in wanted), path)
    state = {
        wanted.get(name, name): tensor
        for name, tensor in chosen.items()
        if name in wanted or not wanted or not is_unread(name, unread)
    }
    if unusable := [f"{name} is {kind}" for name, tensor in state.items() if (kind := _unusable_kind(tensor))]:
        raise ValueError(f"weights: expected plain arrays of numbers in {path}, but {listed(unusable)}")
    return state


class _Part(NamedTuple):
    """Tensors of a file that may be the network's: where they are, under which prefix, how many names are its own."""

    place: str
    prefix: str
    tensors: dict[str, Tensor]
    known: int

    @property
    def key(self) -> str:
        """What to call it by."""
        return "/".join(filter(None, [self.place, self.prefix])) or "/"

    @property
    def name(self) -> str:
        """The key without the separators at its ends."""
        return self.key.strip("./")

    def state(self, *, below_prefix: bool = False) -> dict[str, Tensor]:
        """The tensors without the prefix: all, or those that have it."""
        names: dict[str, str] = {}
        for name in self.tensors:
            if below_prefix and not name.startswith(self.prefix):
                continue
            bare = name.removeprefix(self.prefix)
            if bare in names:
                raise ValueError(f"weights: {names[bare]} and {name} are both {bare} without their prefixes")
            names[bare] = name
        return {bare: self.tensors[name] for bare, name in names.items()}


def _tensors(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every container of a file that holds tensors, with its place: the keys that lead to it."""
    todo, seen = deque([("", content)] if isinstance(content, _CONTAINERS) else ()), set()
    while todo:
        place, container = todo.popleft()
        if id(container) in seen:  # a file may name a container twice, or put it into itself
            continue
        seen.add(id(container))
        items = list(container.items() if isinstance(container, Mapping) else enumerate(container))
        if tensors := {str(name): value for name, value in items if isinstance(value, Tensor)}:
            yield place, tensors
        below = f"{place}/" if place else ""
        todo += [(f"{below}{name}", value) for name, value in items if isinstance(value, _CONTAINERS)]


def _parts(place: str, tensors: dict[str, Tensor], wanted: Mapping[str, str]) -> Iterator[_Part]:
    """Yield the tensors of one place under each prefix that makes some names the network's, or else as they are."""
    bare = {_WRAPPER.sub("", name): tensor for name, tensor in tensors.items()}
    if len(bare) < len(tensors):  # wrappers tell some of them apart
        bare = tensors
    known: Counter[str] = Counter()
    for name in bare:
        for start in (0, *(end.end() for end in re.finditer(r"[./]", name))):
            if name[start:] in wanted and not is_unread(name):
                known[name[:start]] += 1
    for prefix in known or [""]:
        yield _Part(place, prefix, bare, known[prefix])


def _chosen(parts: list[_Part], weights_key: str | None, wanted: int, path: Path) -> dict[str, Tensor]:
    """Choose the tensors that are the network's, or that the key names, under their names without a prefix."""
    place = None if weights_key is None else weights_key.strip("./")
    here = [part for part in parts if place is None or place in (part.place, part.name)]
    likely = _likely(here or parts, wanted)
    keys = listed(part.key for part in likely)
    if not here:
        raise ValueError(f"weights_key: expected one of the sets of tensors in {path}, {keys}, got {weights_key!r}")
    named = [part for part in likely if part.name == place]
    if len(named or likely) > 1:
        raise ValueError(
            f"weights: {path} holds {len(likely)} sets of tensors that may be meant: {keys}; choose one by weights_key "
            "(--weights-key)"
        )
    return (named or likely)[0].state(below_prefix=bool(named))


def _likely(parts: list[_Part], wanted: int) -> list[_Part]:
    """Return the parts with most of the network's names; a single one where these are so few that they are chance."""
    best = max(parts, key=lambda part: (part.known, len(part.tensors)))
    if 2 * best.known < wanted:
        return [best]
    return [part for part in parts if part.known == best.known]


def _unusable_kind(tensor: Tensor) -> str | None:
    """Text that says what a tensor is that is no plain array of numbers; None for one that is."""
    if tensor.is_meta:
        return "a meta tensor, which has a shape and no numbers"
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    return "quantized" if tensor.is_quantized else None


class HasState(Protocol):
    """A network, or a view of one under other names."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> object: ...


def load_state(network: HasState, state: Mapping[str, Tensor], *, name: str, path: str | PathLike[str]) -> None:
    """Fill all parameters and buffers of a network, or none; floating-point entries are cast to the network's dtype.

    The counters of batch norm, which older files lack and inference never reads, may be missing; they become 0.

    Args:
        network: a module, or a view of one under other names.
        state: tensors under the names of ``network.state_dict()``.
        name: name of the network, for messages.
        path: file of the tensors, for messages.

    Raises:
        ValueError: an entry is missing, unexpected, of another shape, not of floating point or not finite. The message
            names the entries.
    """
    wanted = network.state_dict()
    unexpected_keys = [entry for entry in state if entry not in wanted]
    known = len(state) - len(unexpected_keys)
    if unexpected_keys and 2 * known < len(wanted):
        raise ValueError(
            f"weights: {path} holds weights of another network: it has {known} of the {len(wanted)} entries of {name}, "
            f"and besides {listed(unexpected_keys)}; choose the network that they are of"
        )
    mismatched = (_mismatch(entry, state[entry], tensor) for entry, tensor in wanted.items() if entry in state)
    problems = {
        "missing": [entry for entry in wanted if entry not in state and not is_counter(entry)],
        "unexpected": sorted(unexpected_keys),
        "mismatched": sorted(filter(None, mismatched)),
    }
    if any(problems.values()):
        text = "; ".join(f"{kind}: {listed(entries)}" for kind, entries in problems.items() if entries)
        raise ValueError(f"weights: {path} does not fit {name}: {text}")
    counters = {entry: torch.zeros_like(tensor) for entry, tensor in wanted.items() if is_counter(entry)}
    network.load_state_dict(counters | dict(state))


def save_float16(module: nn.Module, path: str | PathLike[str]) -> None:
    """Write the state of a module in half precision, compressed, which :func:`read_state_dict` reads.

    Args:
        module: on any device.
        path: npz file; replaced whole.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in module.state_dict().items()}
    halves: dict[str, Any] = {name: array.astype(np.float16) for name, array in arrays.items()}
    atomic_write(path, lambda file: np.savez_compressed(file, **halves))


def check_finite(module: nn.Module, name: str | PathLike[str]) -> None:
    """Check the weights of a module that something else loaded.

    Buffers may hold infinities, as masks of attention do.

    Args:
        module: the module.
        name: of the module, or its file, for the message.

    Raises:
        ValueError: a parameter is not finite, or a buffer has a NaN. The message names the entries.
    """
    problems = [entry for entry, tensor in module.named_parameters() if not _floats(tensor).isfinite().all()]
    problems += [entry for entry, tensor in module.named_buffers() if _floats(tensor).isnan().any()]
    if problems:
        raise ValueError(f"weights: {name} has entries that are not finite: {listed(problems)}")


def _floats(tensor: Tensor) -> Tensor:
    """The numbers of a floating-point tensor, in a dtype that torch can tell infinities and NaN of; else none."""
    if not tensor.is_floating_point():
        return torch.empty(0)
    return tensor.float() if tensor.itemsize == 1 else tensor


def _mismatch(entry: str, tensor: Tensor, wanted: Tensor) -> str | None:
    """Text that says how an entry differs from what the network wants; None if it fits."""
    if tensor.shape != wanted.shape:
        return f"{entry} has shape {list(tensor.shape)}, expected {list(wanted.shape)}"
    if tensor.is_floating_point() != wanted.is_floating_point():
        kind = "floating point" if wanted.is_floating_point() else "integers"
        return f"{entry} holds {str(tensor.dtype).removeprefix('torch.')}, expected {kind}"
    if not tensor.to(wanted.dtype).isfinite().all():  # as cast: a large double is infinite as float
        return f"{entry} has entries that are not finite"
    return None
