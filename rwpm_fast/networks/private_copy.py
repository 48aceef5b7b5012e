"""Copies of a model's modules that share its weights, to change a model in use by others without their notice.

A copied module has its own table of submodules, its own hooks and its own attributes; parameters and buffers are those
of the original. What torch compiled is run as it was written, since compiled code would run the originals.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from types import FunctionType, MethodType, new_class
from typing import Any

from torch import nn

_HOOKS = [name for name in vars(nn.Module()) if "hooks" in name]
_COMPILED = "_orig_mod"  # submodule of the wrapper that torch.compile puts around a module


def plain(module: nn.Module) -> nn.Module:
    """Return the module inside the wrappers of ``torch.compile``, if there are any."""
    while _COMPILED in module._modules:
        module = module.get_submodule(_COMPILED)
    return module


def plain_path(path: str) -> str:
    """Return the path of a module without the names of the wrappers of ``torch.compile``."""
    return ".".join(name for name in path.split(".") if name != _COMPILED)


def modules_to(root: nn.Module, path: str) -> list[nn.Module]:
    """List the modules on a path from the root to the module itself, which alone may be a wrapper of ``torch.compile``.

    Raises:
        AttributeError: the path names no module.
    """
    chain = [root]
    for name in path.split("."):
        chain[-1] = plain(chain[-1])
        chain.append(chain[-1].get_submodule(name))
    return chain


def copy_path(root: nn.Module, path: str, role: type[nn.Module]) -> tuple[nn.Module, Any]:
    """Copy the modules on a path, and let the last one play a role; every other module is shared with the original.

    Args:
        root: the model.
        path: of a module in it, without names of wrappers of ``torch.compile``.
        role: its methods come before those of the module's own class. It is a class rather than a hook because
            ``torch.compile`` takes modules for equal that differ in hooks only, and runs what it compiled for another.

    Returns:
        The copies of the model and of the module.
    """
    copies = _copied(modules_to(root, path))
    end: Any = copies[-1]
    bases: Any = (role, type(end))
    object.__setattr__(end, "__class__", _subclass(*bases))
    return copies[0], end


@lru_cache  # one class for all copies, since torch.compile compiles again for another
def _subclass(role: type, kind: type) -> type:
    return new_class(kind.__name__, (role, kind))


def copy_tree(root: nn.Module) -> nn.Module:
    """Copy all modules of a model, in evaluation mode."""
    copies = _copied(dict.fromkeys(map(plain, plain(root).modules())))
    for copy in copies:
        vars(copy)["training"] = False
    return copies[0]


def _copied(originals: Iterable[nn.Module]) -> list[nn.Module]:
    """Copy modules, and make the copies refer to each other where the originals do."""
    copies = {id(module): _copy(module) for module in originals}
    for copy in copies.values():
        attributes = vars(copy)
        attributes |= {name: _bound_to_copy(value, copies) for name, value in attributes.items()}
        children = attributes["_modules"]
        attributes["_modules"] = {
            name: child if child is None else copies.get(id(child), copies.get(id(plain(child)), child))
            for name, child in children.items()
        }
    return list(copies.values())


def _copy(module: nn.Module) -> nn.Module:
    copy = object.__new__(type(module))
    attributes = vars(copy)
    attributes |= vars(module)
    attributes |= {name: attributes[name].copy() for name in _HOOKS}
    attributes["_compiled_call_impl"] = None
    if not isinstance(attributes.get("_modules"), dict):  # of a ScriptModule, whose submodules are not Python's
        attributes["_modules"] = {}
    return copy


def _bound_to_copy(value: Any, copies: dict[int, nn.Module]) -> Any:
    """Bind a module's method to the copy of the module: such as a ``forward`` that was replaced, or compiled."""
    written = getattr(value, "_torchdynamo_orig_callable", value) if isinstance(value, FunctionType) else value
    if isinstance(written, MethodType) and id(written.__self__) in copies:
        return MethodType(written.__func__, copies[id(written.__self__)])
    if isinstance(value, partial) and any(id(argument) in copies for argument in value.args):
        return partial(value.func, *(copies.get(id(argument), argument) for argument in value.args), **value.keywords)
    return value
