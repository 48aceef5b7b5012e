"""Read weight files and load them into a network: every entry fits, or nothing is loaded."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..io.text import listed


def read_state_dict(path: str | PathLike[str], *, keys: Sequence[str] = ("model", "state_dict")) -> dict[str, Tensor]:
    """Read the named tensors of a weight file, on the CPU, in the dtypes they are stored in.

    The format follows from the suffix: ``.npz``, ``.safetensors`` (if that package is installed), anything else is
    read as ``torch.save`` writes it. Nothing in a file is executed: pickled objects other than tensors, containers and
    numbers are refused. Tensors of a torch file may be mapped from the file: they are read when used.

    Args:
        path: weight file.
        keys: entries of a torch file that may hold the tensors. The first one present is used; without any, the file
            itself is the dictionary of tensors.

    Returns:
        Tensors by name.

    Raises:
        OSError: there is no such file (``FileNotFoundError``), or it cannot be opened.
        ImportError: a ``.safetensors`` file without that package.
        ValueError: the file is of another format, is cut short or damaged, or holds no tensors.
    """
    path = Path(path)
    try:
        with path.open("rb"):  # so that a missing file gives the same error in every format
            pass
    except OSError as error:
        raise type(error)(f"weights: expected a weight file, got {path}: {error.strerror}") from error
    if path.suffix == ".npz":
        state = _read_npz(path)
    elif path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = _read_torch(path, keys)
    if not state:
        raise ValueError(f"weights: {path} holds no tensors")
    return state


def strip_prefixes(
    state: Mapping[str, Tensor], prefixes: Sequence[str] = ("module.", "branch1.", "model.")
) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers of a network put before the names of its tensors.

    Args:
        state: tensors by name.
        prefixes: prefixes to remove, repeatedly and in any order.

    Returns:
        The same tensors under names that begin with none of the prefixes.

    Raises:
        ValueError: two names become one.
    """
    stripped: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in state.items():
        bare = name
        while found := next((prefix for prefix in prefixes if bare.startswith(prefix)), None):
            bare = bare.removeprefix(found)
        if bare in origin:
            raise ValueError(f"weights: {origin[bare]} and {name} are both {bare} without their prefixes")
        stripped[bare], origin[bare] = tensor, name
    return stripped


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
        "missing": [entry for entry in wanted if entry not in state and not _is_counter(entry)],
        "unexpected": sorted(unexpected_keys),
        "mismatched": sorted(filter(None, mismatched)),
    }
    if any(problems.values()):
        text = "; ".join(f"{kind}: {listed(entries)}" for kind, entries in problems.items() if entries)
        raise ValueError(f"weights: {path} does not fit {name}: {text}")
    counters = {entry: torch.zeros_like(tensor) for entry, tensor in wanted.items() if _is_counter(entry)}
    network.load_state_dict(counters | dict(state))


def _is_counter(entry: str) -> bool:
    return entry.rpartition(".")[-1] == "num_batches_tracked"


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


def _read_npz(path: Path) -> dict[str, Tensor]:
    # np.load treats any file that is neither zip nor npy as a pickle, and its error speaks of pickles.
    if not zipfile.is_zipfile(path):
        raise ValueError(f"weights: expected an npz file, got {path}, which is none or is cut short")
    state, broken = {}, []
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            try:
                state[name] = torch.from_numpy(np.asarray(file[name]))
            except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                broken.append(f"{name} ({error})")
    if broken:
        raise ValueError(f"weights: arrays of {path} cannot be read: {listed(broken)}")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f"weights: reading {path} needs safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"weights: expected a safetensors file, got {path}, which is none or is cut short ({error})"
        ) from error


def _read_torch(path: Path, keys: Sequence[str]) -> dict[str, Tensor]:
    # Only zip archives can be mapped; files of torch before 1.6 are none.
    mapped = zipfile.is_zipfile(path)
    if mapped and (damaged := _damaged(path)):
        raise ValueError(
            f"weights: {path} is damaged: the checksums of {listed(damaged)} do not hold; fetch or copy it again"
        )
    try:
        with _numpy_numbers():
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if not any(text in str(error) for text in ("Unsupported global", "Unsupported class")):
            raise _not_torch(path) from error
        raise ValueError(
            f"weights: {path} holds objects besides tensors, which are not loaded because unpickling them may run any "
            "code; if you trust the file, read it with torch.load(..., weights_only=False) and save its tensors alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise _not_torch(path) from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in keys if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping):
        raise ValueError(
            f"weights: expected a dict of tensors in {path}, by itself or under {' or '.join(map(repr, keys))}, "
            f"got {type(content).__name__}"
        )
    not_tensors = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if not_tensors:
        raise ValueError(
            f"weights: expected a dict of tensors in {path}, by itself or under {' or '.join(map(repr, keys))}, "
            f"but {listed(not_tensors)} hold none"
        )
    return dict(content)


def _damaged(path: Path) -> list[str]:
    """List the entries of a zip archive whose checksum does not match their content; torch does not check this."""
    damaged = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.CRC == 0:  # torch.save has an option that leaves the checksums out
                    continue
                try:
                    with archive.open(entry) as content:
                        while content.read(2**20):
                            pass
                except zipfile.BadZipFile:
                    damaged.append(entry.filename)
    except zipfile.BadZipFile as error:
        raise _not_torch(path) from error
    return damaged


def _not_torch(path: Path) -> ValueError:
    return ValueError(
        f"weights: expected a weight file (of torch.save, or with suffix .npz or .safetensors), got {path}, which is "
        "none or is cut short"
    )


def _numpy_numbers() -> AbstractContextManager[None]:
    """Allow NumPy numbers in a file, such as the accuracy that many checkpoints hold besides their tensors."""
    if torch.__version__ < "2.6":  # cannot allow a function under another name than its own
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?")}
    # NumPy 2 moved the function; a file has the name of the NumPy that wrote it.

    places = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return torch.serialization.safe_globals([*((scalar, place) for place in places), np.dtype, *dtypes])
