"""Parsed command-line options as arguments again, for records of how a result was made."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any


def non_default_args(
    options: argparse.Namespace,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    *,
    positional: Sequence[str] = (),
) -> list[str]:
    """Return the arguments that parse to these options, without those that have their default.

    An option must be called like its attribute: ``--walk-values`` for ``walk_values``, and ``--no-walk-padding`` for a
    ``walk_padding`` that is True by default.

    Args:
        options: parsed options.
        add_arguments: adds the arguments to a parser; none of them may be required.
        positional: names of optional positional arguments, in order.
    """
    changed = non_default_options(options, add_arguments)
    args = [str(changed.pop(name)) for name in positional if name in changed]
    for name, value in changed.items():
        option = name.replace("_", "-")
        args.append(f"--no-{option}" if value is False else f"--{option}")
        if isinstance(value, list):
            args += map(str, value)
        elif not (isinstance(value, bool) or value == ""):  # an optional value that was left out
            args.append(str(value))
    return args


def non_default_options(
    options: argparse.Namespace, add_arguments: Callable[[argparse.ArgumentParser], None]
) -> dict[str, Any]:
    """Return the options that do not have their default, by attribute.

    Args:
        options: parsed options.
        add_arguments: adds the arguments to a parser; none of them may be required.
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    changed = {name: getattr(options, name, default) for name, default in defaults.items()}
    return {name: value for name, value in changed.items() if value not in (None, defaults[name])}
