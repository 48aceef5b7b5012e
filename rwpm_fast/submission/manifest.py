"""What a folder of results was made with, so that a rerun goes on only with the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..io.files import atomic_write
from ..networks.digest import weights_digest
from ..scoring.scorer import Scorer


def settings_of(scorer: Scorer) -> dict[str, Any]:
    """JSON-ready facts that make the scores what they are."""
    return {
        "network": scorer.network.name,
        "weights": weights_digest(scorer.network),
        "score": scorer.score,
        "walk": repr(scorer.walk),
        "walk_values": scorer.walk_values,
        "calibrated": scorer.calibrated,
        "walk_padding": scorer.walk_padding,
    }


def begin(path: Path, settings: dict[str, Any], results: Iterable[Path], *, force: bool) -> dict[str, Any] | None:
    """The record of an earlier run to go on from; None to start.

    Args:
        path: file of the record.
        settings: what this run is made with.
        results: files that earlier runs left.
        force: delete them and start.

    Raises:
        ValueError: the record is of other settings or cannot be read, or there are results without one.
    """
    if force:
        for result in results:
            result.unlink()
        return None
    if not path.is_file():
        if left := next(iter(results), None):
            raise ValueError(f"{path}: missing, so nothing tells what {left.name} beside it was made with; use --force")
        return None
    try:
        record = json.loads(path.read_text())
        earlier = record["settings"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected the record of an earlier run ({error!r}); use --force") from error
    if changed := [name for name in settings if earlier.get(name) != settings[name]]:
        raise ValueError(
            f"{path}: an earlier run wrote there with another {', '.join(changed)}; write elsewhere, or use --force"
        )
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record whole or not at all."""
    text = json.dumps(record, indent=2) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))
