"""Run an export by ONNX Runtime."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..io.extras import import_extra
from ..native import way_to_build
from .errors import ExportError
from .metadata import Metadata
from .photos import check_photo

# Registers the walk with a session of ONNX Runtime.
OPERATORS = Path(__file__).parents[1] / "librwpm_ort.so"


class OnnxSession:
    """An export that ONNX Runtime has loaded; see :func:`load_onnx`.

    Args:
        path: the file.
        session: an ``onnxruntime.InferenceSession`` of it.

    Attributes:
        metadata: what the file says of itself.
        pure: whether the walk is plain ONNX, and so exact, or the operator.

    Raises:
        ExportError: the file is no export of rwpm-fast, or one that this version does not read.
    """

    def __init__(self, path: Path, session: Any) -> None:
        strings = session.get_modelmeta().custom_metadata_map
        self.path, self.session = path, session
        self.metadata = Metadata.from_strings(strings, str(path))
        self.pure = strings.get("rwpm.onnx") == "pure"
        if not self.pure:
            self.metadata.check_operator(str(path))

    def run(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score one photo.

        Args:
            photo: [H, W, 3] uint8, RGB, see :func:`rwpm_fast.deploy.photos.check_photo`; any strides.

        Returns:
            Score [H, W] float32, higher is more anomalous, and index of the likeliest class [H, W] uint8.

        Raises:
            TypeError: the photo is no array of uint8.
            ValueError: the photo has another shape.
            ExportError: ONNX Runtime failed, in its words.
        """
        photo = check_photo(photo, self.metadata.min_side)
        try:
            score, segmentation = self.session.run(["score", "segmentation"], {"photo": photo})
        except Exception as error:
            raise ExportError(f"{self.path}: {_words(error)}") from error
        return score, segmentation


def load_onnx(path: str | os.PathLike[str], *, threads: int | None = None) -> OnnxSession:
    """Load an export by ONNX Runtime, on the CPU.

    Args:
        path: file of :func:`rwpm_fast.deploy.onnx.export_onnx`.
        threads: of a run, also of its walk; None for ONNX Runtime's choice, the number of cores.

    Returns:
        The session.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: there is no such file.
        ExportError: the file is no export of rwpm-fast, or one that this version or this onnxruntime does not read; or
            its walk is the operator, and the operator's library is missing, or refuses this onnxruntime, which is too
            old.

    Example:
        >>> score, segmentation = load_onnx("compact.onnx").run(photo)
    """
    runtime = import_extra("onnxruntime", "a model in ONNX")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and need not be on standard error as well
    if threads is not None:
        options.intra_op_num_threads = threads
    reason = _register(options)  # matters only to a model with the operator
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        words = _words(error)
        if reason is not None and "rwpm:Walk" in words:
            raise ExportError(f"{path}: cannot run its walk: {reason}") from error
        raise ExportError(f"{path}: onnxruntime {runtime.__version__} does not load it: {words}") from error
    return OnnxSession(path, session)


def _register(options: Any) -> str | None:
    """Let a session know the operator, or say why not."""
    if not OPERATORS.exists():
        return f"{OPERATORS.name} is not built; {way_to_build(OPERATORS.name, 'needs g++')}"
    try:
        options.register_custom_ops_library(str(OPERATORS))
    except Exception as error:
        return _words(error)
    return None


def _words(error: Exception) -> str:
    """What ONNX Runtime says in an exception, in one line and without its numbers."""
    return re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", re.sub(r"\s+", " ", str(error))).strip()
