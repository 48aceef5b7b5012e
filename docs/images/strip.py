"""Pictures side by side in one figure, as the documentation shows them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes


def save_strip(
    file: Path, pictures: Sequence[tuple[np.ndarray, str, dict[str, Any]]], mark: Callable[[Axes], object]
) -> None:
    """Save pictures in a row.

    Args:
        file: PNG to write.
        pictures: of each the array, its title, and arguments of ``imshow``.
        mark: draws on every picture.
    """
    figure, axes = plt.subplots(1, len(pictures), figsize=(12, 2.35), dpi=90)
    for axis, (picture, title, style) in zip(axes, pictures, strict=True):
        axis.imshow(picture, **style)
        mark(axis)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.subplots_adjust(left=0.003, right=0.997, bottom=0.01, top=0.89, wspace=0.012)
    figure.savefig(file)
    plt.close(figure)


def score_style(maps: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the arguments of ``imshow`` that show score maps in the same colors."""
    low, high = np.percentile(np.stack(maps), (1, 99.9))
    return {"cmap": "inferno", "vmin": low, "vmax": high}
