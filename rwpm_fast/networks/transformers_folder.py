"""Folders that ``save_pretrained`` of Hugging Face transformers wrote, and the import of what reads them.

Needs transformers where it says so only; nothing is downloaded.
"""

from __future__ import annotations

import json
import math
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

PIXEL_MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB, 0..255
PIXEL_STD = (58.395, 57.12, 57.375)


def import_models(module: str, networks: str) -> ModuleType:
    """Import a module of this package that needs transformers.

    Args:
        module: its name in :mod:`rwpm_fast.networks`.
        networks: what needs it, for the message.

    Raises:
        ImportError: transformers or SciPy is missing, or cannot be imported; the message says which, and the way out.
    """
    try:
        # transformers needs SciPy for some models too, but says so only when it computes.
        import scipy  # noqa: F401

        return import_module(f".{module}", __package__)
    except (ImportError, OSError, RuntimeError) as error:  # the last two by a library that does not fit torch
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        missing = (root.name or "").partition(".")[0] if isinstance(root, ModuleNotFoundError) else ""
        if missing in ("scipy", "transformers", "safetensors"):
            way_out = "pip install 'rwpm-fast[transformers]'"
        else:
            # transformers imports torchvision wherever it is installed.
            way_out = (
                "they are installed, and one that they import is not, or does not fit; reinstall it, or uninstall it "
                "if it is torchvision, which these networks do not use"
            )
        raise ImportError(
            f"{networks} networks need transformers and SciPy ({type(root).__name__}: {root}): {way_out}"
        ) from error


def open_folder(weights: str | PathLike[str], *types: str) -> Path:
    """Check that a folder holds a model.

    Args:
        weights: the folder.
        types: ``model_type`` of the configurations that are wanted; none for any.

    Raises:
        FileNotFoundError: there is no such folder, or no ``config.json`` in it.
        ValueError: the configuration is no JSON object, or that of another model.
    """
    folder = Path(weights)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"weights: expected a folder of transformers' save_pretrained, with a config.json, got {folder}"
        )
    if types and (found := model_type(folder)) not in types:
        raise ValueError(
            f"weights: expected a folder with a model of type {' or '.join(types)}, got {found} in {folder}"
        )
    return folder


def model_type(folder: Path) -> str | None:
    """Return the ``model_type`` of a folder's configuration; None where it has none."""
    return _json_object(folder / "config.json").get("model_type")


def class_names(config: Any) -> tuple[str, ...]:
    """Return the names of the classes of a transformers configuration, in the order of their numbers."""
    return tuple(name for _, name in sorted(config.id2label.items()))


def pixel_statistics(folder: Path) -> dict[str, Any]:
    """Read mean and standard deviation, 0..255, from a folder whose ``preprocessor_config.json`` has them as 0..1.

    Returns:
        ``pixel_mean`` and ``pixel_std``, those that are there.

    Raises:
        ValueError: the file is no JSON object, or has no three numbers for a color.
    """
    settings = folder / "preprocessor_config.json"
    if not settings.is_file():
        return {}
    found = _json_object(settings)
    statistics = {}
    for kind, least in (("mean", -math.inf), ("std", 0)):
        if (entry := f"image_{kind}") not in found:
            continue
        values = found[entry]
        numbers = [value for value in values if isinstance(value, (int, float))] if isinstance(values, list) else []
        if not (len(numbers) == 3 and len(values) == 3 and all(least < value < math.inf for value in numbers)):
            wanted = "three numbers above 0" if kind == "std" else "three numbers"
            raise ValueError(f"weights: expected {wanted} as {entry!r} in {settings}, got {values!r}")
        statistics[f"pixel_{kind}"] = tuple(255 * value for value in numbers)
    return statistics


def _json_object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"weights: expected JSON in {file}, which is none or is cut short ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"weights: expected a JSON object in {file}, got {type(found).__name__}")
    return found
