"""Maps as the page reads them: a head in JSON, then scores of 16 bits, then classes of 8.

===========================  ======================================================================================
bytes                        content
===========================  ======================================================================================
4                            length of the head, little-endian
that many                    head: JSON, filled up with spaces to a multiple of 4 with these 4 bytes
2 H W                        scores: q, little-endian; the score is ``low + q * step``, off by half a step at most
h w                          index of the likeliest class at the center of every pixel of the embedding map
H W, where the head says so  labels of the photo: 0 inlier, 1 anomaly, 255 void
===========================  ======================================================================================
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from torch import Tensor

LEVELS = 65535


def pack_map(score: Tensor, classes: np.ndarray, head: dict[str, Any], labels: np.ndarray | None = None) -> bytes:
    """Pack a score map.

    Args:
        score: [H, W] float32, finite.
        classes: [h, w] uint8.
        head: what else the page is told, JSON-ready.
        labels: [H, W] uint8, or None.
    """
    low, high = (float(end) for end in score.aminmax())
    step = (high - low) / LEVELS or 1.0
    levels = ((score - low) / step).round_().clamp_(0, LEVELS).cpu().numpy().astype("<u2")
    height, width = score.shape
    about = {"width": width, "height": height, "rows": classes.shape[0], "columns": classes.shape[1]}
    about |= {"low": low, "step": step, "labels": labels is not None}
    text = json.dumps(about | head).encode()
    text += b" " * (-len(text) % 4)
    parts = [len(text).to_bytes(4, "little"), text, levels.tobytes(), classes.tobytes()]
    return b"".join(parts if labels is None else [*parts, labels.tobytes()])
