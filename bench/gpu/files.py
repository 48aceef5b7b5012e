"""Parts' files, and how few come of them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def sources() -> str:
    """Digest of the package and of this folder: a part's file of other sources does not count."""
    digest = hashlib.sha256()
    for folder in ("rwpm_fast", "bench"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def atomic_write(path: Path, text: str) -> None:
    """Write a file whole or not at all; as rwpm_fast.io.images, whose torch who watches does not load."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def write_part(work: Path, name: str, content: dict[str, Any]) -> None:
    text = json.dumps({"part": name, "sources": sources(), **content}, indent=1, default=str)
    atomic_write(work / f"{name}.json", text + "\n")


def read_part(work: Path, name: str) -> dict[str, Any] | None:
    """A part's content; None where it has not run with these sources."""
    try:
        content = json.loads((work / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return content if content.get("sources") == sources() else None
