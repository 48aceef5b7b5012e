"""The files of the tasks' results."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def sources() -> str:
    """Digest of the package and of ``bench``: results of other sources do not count."""
    digest = hashlib.sha256()
    for folder in ("rwpm_fast", "bench"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def atomic_write(path: Path, text: str) -> None:
    """Write a file whole or not at all; as in rwpm_fast.io.files, but importing the package would load torch, which
    the watching process does not need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def write_result(work: Path, name: str, content: dict[str, Any]) -> None:
    """Write the result of a task."""
    text = json.dumps({"task": name, "sources": sources(), **content}, indent=1, default=str)
    atomic_write(work / f"{name}.json", text + "\n")


def read_result(work: Path, name: str) -> dict[str, Any] | None:
    """Read the result of a task; None if it has not run with these sources."""
    try:
        content = json.loads((work / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return content if content.get("sources") == sources() else None
