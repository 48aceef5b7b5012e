"""Load a model of Hugging Face transformers from a folder: every entry fits, or nothing is loaded.

Only this module and the models need transformers; importing it without them raises ImportError.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from ..io.text import listed
from .checkpoint import check_finite, is_unread, read_state_dict

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # unless they are so large that there are several


def kind(name: str) -> Any:
    """Return a class of transformers by its name."""
    return getattr(transformers, name)


def pretrained(
    model_class: Any,
    folder: Path,
    weights_key: str | None = None,
    *,
    is_stable: Callable[[str], object] = lambda name: True,
    unread: re.Pattern[str] | None = None,
) -> Any:
    """Load the model that ``save_pretrained`` wrote, in evaluation mode.

    Args:
        model_class: class of the model.
        folder: with ``config.json`` and the weights.
        weights_key: place of the tensors in the file of weights, where several sets of them fit.
        is_stable: whether an entry is called the same in files of every version of transformers; the others are renamed
            when they are loaded, and do not help to find the tensors in a file.
        unread: found in the names of entries that inference does not read and that a file may lack.

    Raises:
        OSError: there are no weights in the folder.
        ValueError: the weights do not fit the configuration, are not finite, or their file is cut short.
    """
    source: dict[str, Any] = {"pretrained_model_name_or_path": folder, "local_files_only": True}
    if file := next(filter(Path.is_file, (folder / name for name in WEIGHT_FILES)), None):
        config = model_class.config_class.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            names = [name for name in model_class(config).state_dict() if is_stable(name)]
        state = read_state_dict(file, names, weights_key=weights_key, unread=unread)
        source = {"pretrained_model_name_or_path": None, "config": config, "state_dict": state}
    elif weights_key is not None:
        raise ValueError(f"weights_key: expected with a single file of weights, and {folder} has none")
    library = logging.getLogger("transformers")
    level = library.level
    library.setLevel(logging.ERROR)  # mismatches are reported below, where they matter
    try:
        model, report = model_class.from_pretrained(**source, output_loading_info=True, ignore_mismatched_sizes=True)
    except SafetensorError as error:
        raise ValueError(f"weights: a file in {folder} is no safetensors file, or is cut short ({error})") from error
    finally:
        library.setLevel(level)
    problems = {
        kind: sorted(name for name in map(str, report[f"{kind}_keys"]) if not is_unread(name, unread))
        for kind in ("missing", "unexpected", "mismatched")
    }
    if any(problems.values()):
        text = "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"weights: {folder} does not fit its configuration: {text}")
    check_finite(model, folder)
    return model.eval()
