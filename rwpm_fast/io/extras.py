"""Import packages of the extras, or say what needs them and how to install them. Needs neither torch nor NumPy."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXTRAS = {
    "PIL": ("Pillow", "cli"),
    "av": ("PyAV", "video"),
    "cv2": ("OpenCV", "flow"),
    "google": ("protobuf", "robot"),
    "h5py": ("h5py", "submission"),
    "matplotlib": ("matplotlib", "cli"),
    "mcap": ("mcap", "robot"),
    "onnx": ("onnx", "onnx"),
    "onnx_ir": ("onnx-ir", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "onnxscript": ("onnxscript", "onnx"),
    "rosbags": ("rosbags", "robot"),
    "scipy": ("SciPy", "metrics"),
    "sklearn": ("scikit-learn", "figure"),
    "starlette": ("Starlette", "serve"),
    "uvicorn": ("uvicorn", "serve"),
}


def import_extra(module: str, purpose: str) -> Any:
    """Import a module of an extra.

    Args:
        module: its name, such as "PIL.Image".
        purpose: what needs it, for the message.

    Returns:
        The module.

    Raises:
        ImportError: it is not installed, or does not work; the message names the extra.
    """
    top = module.partition(".")[0]
    try:
        import_module(top)
        return import_module(module)
    except ImportError as error:
        package, extra = _EXTRAS[top]
        message = f"{purpose} needs {package} ({error}): pip install 'rwpm-fast[{extra}]'"
        raise ImportError(message, name=error.name) from error


def require_extras(purpose: str, *modules: str) -> None:
    """Raise before any work if one of the modules cannot be imported; see :func:`import_extra`."""
    for module in modules:
        import_extra(module, purpose)
