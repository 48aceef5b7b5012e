"""Run a command line so that its messages tell what was wrong, and so that nothing that it prints can end its work.

A reader that leaves (``| head``), a full disk, a stream that is closed or a name beyond the stream's encoding cost
what cannot be printed, and nothing else. Needs neither torch nor NumPy.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from ..memory import is_out_of_memory
from .text import printable_lines


def run_command(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], arguments: list[str] | None = None
) -> int:
    """Parse arguments and run a command.

    Args:
        parser: of the command line. Where it has sub-commands, their ``dest`` is ``command``.
        run: does the work; returns the exit status.
        arguments: words after the command's name; None for those of this process.

    Returns:
        The status of ``run``; 1 instead of 0 when its output could not be printed for another reason than that nobody
        reads it; 2 with the reason on standard error when it raised an error that users can correct; 130 when it was
        interrupted.

    Raises:
        SystemExit: by the parser, after its help or a message.
    """
    with lasting_streams() as output:
        try:
            status = _run(parser, run, arguments)
        except SystemExit:
            if output.failure() is None:
                raise
            status = 0
        if (failure := output.failure()) is not None:
            print(
                f"{parser.prog}: standard output: {failure.strerror}; the work went on, but not all was printed",
                file=sys.stderr,
            )
            status = status or 1
    return status


def _run(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], arguments: list[str] | None) -> int:
    options = parser.parse_args(arguments)
    program = " ".join(filter(None, [parser.prog, getattr(options, "command", None)]))
    try:
        return run(options)
    # Errors that users can correct: a path, a setting, a file, the environment. Others keep their traceback.
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"{program}: {printable_lines(error)}", file=sys.stderr)
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        way_out = "use smaller photos, or run where a process may take more"
        print(f"{program}: out of memory; {way_out} ({printable_lines(error)})", file=sys.stderr)
        return 2


class _Stream:
    """A text stream that takes everything: what its encoding lacks is escaped, what cannot be written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        self._attempt(self._stream.write, text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        self._attempt(self._stream.flush)

    def failure(self) -> OSError | None:
        """Write what is buffered, and return why not all could be written; None also if nobody wanted it."""
        self.flush()
        return None if isinstance(self._error, BrokenPipeError) else self._error

    def _attempt(self, write: Callable[..., object], *arguments: str) -> None:
        if self._error is not None:
            return
        try:
            write(*arguments)
        except OSError as error:
            self._error = error
            # What is left in the buffer would raise once more when Python ends.
            with suppress(OSError), open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())


@contextmanager
def lasting_streams() -> Iterator[_Stream]:
    """Make standard output and standard error take everything meanwhile; gives standard output, for its ``failure``."""
    _fill_closed()
    with open(os.devnull, "w") as nowhere:  # Python has None for a stream that was closed from the start
        out, err = (_Stream(stream or nowhere) for stream in (sys.stdout, sys.stderr))
        with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
            try:
                yield out
            finally:
                out.flush()
                err.flush()


def _fill_closed() -> None:
    """Open the numbers of closed standard streams, or the next file would get one, and what libraries print with it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
