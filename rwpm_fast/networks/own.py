"""A network of the user's own by the place of what builds it: ``my.module:build`` or ``folder/file.py:build``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..io.text import listed
from .checkpoint import load_state, read_state_dict

FORM = "my.module:build or file.py:build"


def is_place(name: str) -> bool:
    """Whether a network is named by the place of what builds it."""
    return ":" in name


def file_stem(name: str) -> str:
    """Return what files of a network are called by: its name, or that of module and attribute."""
    if not is_place(name):
        return name
    module, attribute = _split(name)
    stem = Path(module).stem if module.endswith(".py") else module
    return f"{stem}-{attribute}"


def build(name: str, weights: str | PathLike[str] | None = None, *, weights_key: str | None = None) -> nn.Module:
    """Import what a place names, and build the module.

    The attribute is a module, or a function or class that makes one without arguments. With weights it is called with
    them as ``weights=`` if it has a parameter of that name, and loads them itself; else they are loaded into the module
    by the names of its ``state_dict``, all of them. The file's folder, or the current one, is searched for other
    modules last.

    Args:
        name: ``my.module:build`` or ``file.py:build``.
        weights: file of weights; None for those that the module has.
        weights_key: place of the tensors in the file, where several sets of them fit.

    Returns:
        The module, as it was built.

    Raises:
        ValueError: the name is of another form, names nothing that can be called or imported, what is built is no
            module, or weights do not fit.
        FileNotFoundError: there is no such file.
        ImportError: the module, or one that it imports, is not found.
    """
    made = _attribute(name)
    loads_itself = False
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise ValueError(
                f"network: expected {name} to be a torch.nn.Module, or a function or class that makes one, got a "
                f"{type(made).__name__}"
            )
        loads_itself = weights is not None and _has_weights(made)
        arguments = {"weights": weights} if loads_itself else {}
        if missing := _required(made, arguments):
            raise ValueError(
                f"network: expected {name} to need no argument but weights, it needs {listed(missing)}; give a "
                "function that fills them in"
            )
        made = made(**arguments)
    if not isinstance(made, nn.Module):
        raise ValueError(f"network: expected {name} to make a torch.nn.Module, got a {type(made).__name__}")
    if loads_itself and weights_key is not None:
        raise ValueError(f"weights_key: expected none, since {name} loads its weights itself, got {weights_key!r}")
    if weights is not None and not loads_itself:
        state = read_state_dict(weights, made.state_dict(), weights_key=weights_key)
        load_state(made, state, name=name, path=weights)
    return made


def _split(name: str) -> tuple[str, str]:
    module, _, attribute = name.rpartition(":")
    if not module or not attribute.isidentifier():
        raise ValueError(f"network: expected {FORM}, got {name!r}")
    return module, attribute


def _attribute(name: str) -> Any:
    where, attribute = _split(name)
    module = _from_file(Path(where)) if where.endswith(".py") else _imported(where)
    if not hasattr(module, attribute):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"network: {where} has no {attribute!r}; it has {listed(public) or 'nothing to call'}")
    return getattr(module, attribute)


def _imported(name: str) -> ModuleType:
    _search(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # one that it imports
        raise ImportError(
            f"network: no module {name!r} in {Path.cwd()} or installed; give its file as FOLDER/FILE.py:build",
            name=error.name,
        ) from error


def _from_file(path: Path) -> ModuleType:
    """Run a file as a module, once in a process."""
    if not path.is_file():
        raise FileNotFoundError(f"network: no such file: {path}")
    path = path.resolve()
    name = f"{path.stem} of {path.parent}"  # no name that an import statement could mean
    if name not in sys.modules:
        _search(path.parent)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None  # of a name that ends in .py
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _search(folder: Path) -> None:
    """Let imports find modules of a folder, after all others, so that none of them takes the place of a library."""
    if (place := os.fspath(folder)) not in sys.path:
        sys.path.append(place)


def _parameters(made: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(made).parameters.values())
    except (TypeError, ValueError):  # of C, without a signature
        return []


def _has_weights(made: Callable[..., Any]) -> bool:
    return any(p.name == "weights" and p.kind != p.POSITIONAL_ONLY for p in _parameters(made))


def _required(made: Callable[..., Any], given: dict[str, Any]) -> list[str]:
    """Names of the parameters without a default that are not given."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in _parameters(made) if p.default is p.empty and p.kind not in several and p.name not in given]
