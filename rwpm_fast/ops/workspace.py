"""The memory that walks on the CPU keep from frame to frame."""

from __future__ import annotations

from . import library


class Workspace:
    """Keeps the temporary memory of walks on the CPU for the next walk, from its creation until :meth:`close`.

    Without one, a walk gives back all of its memory, up to some hundred MiB, and the next one asks for it again. With
    one, walks of frames of the same size or a smaller one ask for none from the second on; together with ``out=`` of
    :func:`rwpm_fast.walk` and float32 tensors no memory is taken for numbers at all. Results are the same to the bit.

    All walks of the process share one workspace, in any thread: several objects keep it until the last one is closed.
    Backends other than the compiled CPU kernels do not use it; without the compiled library it does nothing.

    Example:
        >>> with rwpm_fast.Workspace():
        ...     for embeddings, logits in frames:
        ...         rwpm_fast.walk(embeddings, logits, out=walked)

    Raises:
        MemoryError: the system has no memory left.
    """

    def __init__(self) -> None:
        self._functions = library.functions()
        if self._functions is not None and self._functions.rwpm_workspace_open():
            self._functions = None
            raise MemoryError("Workspace: the system has no memory left")

    @property
    def bytes(self) -> int:
        """Memory that it holds, about; 0 when closed."""
        return 0 if self._functions is None else self._functions.rwpm_workspace_bytes()

    def close(self) -> None:
        """Give the memory back, unless another object keeps it. A second call does nothing."""
        functions, self._functions = self._functions, None
        if functions is not None:
            functions.rwpm_workspace_close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_functions", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return f"Workspace({self.bytes} bytes)"
