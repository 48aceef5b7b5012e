"""Figure of a training: losses, average precision and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .figures import CURVE_COLORS, GRAY, blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_curves(epochs: Sequence[Mapping[str, float]]) -> Figure:
    """Draw the epochs of a training.

    Args:
        epochs: one mapping for each, with ``number``, ``learning_rate``, ``training_loss``, ``validation_loss`` and
            ``validation_ap``, such as ``Epoch._asdict()`` of :mod:`rwpm_fast.synboost.dissimilarity_training` gives it.

    Raises:
        ValueError: no epoch.
        ImportError: matplotlib is not installed.
    """
    if not epochs:
        raise ValueError("epochs: expected one or more, got none")
    figure = blank_figure((10.0, 3.2))
    panels = figure.subplots(1, 3)
    numbers = [epoch["number"] for epoch in epochs]
    series = (
        ("loss", (("training", "training_loss", CURVE_COLORS[0]), ("validation", "validation_loss", CURVE_COLORS[1]))),
        ("validation AP", (("", "validation_ap", CURVE_COLORS[1]),)),
        ("learning rate", (("", "learning_rate", GRAY),)),
    )
    for ax, (title, lines) in zip(panels, series, strict=True):
        for label, name, color in lines:
            ax.plot(numbers, [epoch[name] for epoch in epochs], color=color, marker=".", label=label, linewidth=1.4)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=9)
    panels[1].set_ylim(0, 1)
    panels[2].set_yscale("log")
    return figure
