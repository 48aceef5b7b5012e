"""The manifest of a folder of results: the settings behind them, so that a rerun continues only with the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..io.files import write_text
from ..networks.digest import weights_digest
from ..scoring.scorer import Scorer


def settings_of(scorer: Scorer) -> dict[str, Any]:
    """Collect all settings that the scores depend on, JSON-ready."""
    return {
        "network": scorer.network.name,
        "weights": weights_digest(scorer.network),
        "score": scorer.score,
        "walk": repr(scorer.walk),
        "walk_values": scorer.walk_values,
        "calibrated": scorer.calibrated,
        "walk_padding": scorer.walk_padding,
        **scorer.identity(),
    }


def open_manifest(
    path: Path, settings: dict[str, Any], results: Iterable[Path], *, force: bool
) -> dict[str, Any] | None:
    """Read the manifest of an earlier run that this run may continue.

    Args:
        path: file of the manifest.
        settings: the settings of this run.
        results: result files of earlier runs.
        force: delete these files and start from scratch.

    Returns:
        The manifest of the earlier run; None if this run starts from scratch.

    Raises:
        ValueError: the manifest is of other settings or cannot be read, or there are results without one.
    """
    if force:
        for result in results:
            result.unlink()
        return None
    if not path.is_file():
        if left := next(iter(results), None):
            raise ValueError(f"{path}: missing, so the settings behind {left.name} are unknown; use --force")
        return None
    try:
        manifest = json.loads(path.read_text())
        earlier = manifest["settings"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected the record of an earlier run ({error!r}); use --force") from error
    if changed := [name for name in settings if earlier.get(name) != settings[name]]:
        raise ValueError(
            f"{path}: an earlier run wrote there with another {', '.join(changed)}; write elsewhere, or use --force"
        )
    return manifest


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest atomically."""
    write_text(path, json.dumps(manifest, indent=2) + "\n")
