"""Photos that several processes share: the option, and the call in each of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..evaluate import Processes


def add_processes_option(parser: argparse._ActionsContainer) -> None:
    """Add the number of processes to a parser or group."""
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="K",
        help="share the photos among K processes, and the threads unless --threads gives each a number (default: 1)",
    )


def check_processes(options: argparse.Namespace) -> None:
    """Raise ValueError for a number of processes that there cannot be."""
    if options.processes < 1:
        raise ValueError(f"--processes: expected 1 or more, got {options.processes}")


def run_shared(function: Callable[..., int], options: argparse.Namespace, *arguments: object) -> int:
    """Call ``function(options, processes, *arguments)`` here, or in each of the processes that share the photos.

    Args:
        function: picklable; gets the options with this process's own device, and the processes.
        options: of a parser with network options and :func:`add_processes_option`.
        arguments: further ones, the same in every process; picklable.

    Returns:
        The exit status that the function returned, of the first process.

    Raises:
        Exception: what the function raised in the process that failed first.
        ConnectionError: another process of ``torchrun`` went away.
        ChildProcessError: a process of this machine was killed.
    """
    from ..evaluate.distributed import launch, started

    call = partial(_call, function, options, arguments)
    if options.processes > 1 and not started():
        return launch(options.processes, call)
    return call()


def _call(function: Callable[..., int], options: argparse.Namespace, arguments: tuple[object, ...]) -> int:
    from ..evaluate.distributed import device_name, from_environment

    with from_environment() as processes:
        own = argparse.Namespace(**{**vars(options), "device": device_name(options.device)})
        return function(own, processes, *arguments)


def shown_by_first(processes: Processes, progress: Callable) -> Callable:
    """Return a function that wraps items in a progress bar, in the first process, and leaves them in the others."""
    return progress if processes.first else iter
