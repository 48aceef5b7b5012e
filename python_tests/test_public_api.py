"""The public names and their signatures, as python_tests/public_api.txt has them.

A change of the public API changes that file in the same commit, where a reviewer sees it:

    python -m python_tests.test_public_api
"""

import enum
import inspect
import re
from importlib import import_module
from pathlib import Path

import rwpm_fast

SNAPSHOT = Path(__file__).with_name("public_api.txt")
MODULES = ("rwpm_fast", *(f"rwpm_fast.{name}" for name in rwpm_fast._MODULES))


def _signature(value) -> str:
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return ""


def _lines(name: str, value) -> list[str]:
    """A public name, and the public members of a class that are its own."""
    if inspect.isclass(value):
        lines = [f"class {name}{_signature(value) if not issubclass(value, (enum.Enum, Exception)) else ''}"]
        for member, own in sorted(vars(value).items()):
            if member.startswith("_"):
                continue
            if isinstance(own, (staticmethod, classmethod)):
                own = own.__func__
            kind = _signature(own) if inspect.isfunction(own) else ""
            lines.append(f"    {name}.{member}{kind}")
        return lines
    return [f"{name}{_signature(value)}" if callable(value) else name]


def public_api() -> str:
    """Every public name, a line each."""
    lines = []
    for module in MODULES:
        room = import_module(module)
        for name in sorted(room.__all__):
            lines += _lines(f"{module}.{name}", getattr(room, name))
    return "\n".join(lines) + "\n"


def test_public_api_is_that_of_the_snapshot():
    update = "the public API changed: run python -m python_tests.test_public_api, and say why in the commit"
    assert public_api() == SNAPSHOT.read_text(), update


def test_every_public_name_has_a_docstring():
    missing = []
    for module in MODULES:
        room = import_module(module)
        assert room.__doc__, module
        for name in room.__all__:
            value = getattr(room, name)
            if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value):
                missing.append(f"{module}.{name}")
    assert not missing


if __name__ == "__main__":
    SNAPSHOT.write_text(public_api())
