"""Figures of trainings: losses and what they depend on, by epoch or by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .figures import CURVE_COLORS, GRAY, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


def loss_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the losses of a training by step, each in a panel of its own, and its schedule.

    A loss of walked logits is drawn beside that of the logits.

    Args:
        history: one or more reports, such as :class:`rwpm_fast.training.trainer.Progress` has them.

    Raises:
        ValueError: no report.
        ImportError: matplotlib is not installed.
    """
    if not history:
        raise ValueError("history: expected one or more reports, got none")
    steps = [report["step"] for report in history]
    names = [name for name in history[0]["losses"] if not name.startswith("walked ")]
    walks = "walk_steps" in history[0]
    columns = 3
    rows = -(-(len(names) + 1 + walks) // columns)
    figure = blank_figure((10.0, 2.7 * rows))
    panels = figure.subplots(rows, columns, sharex=True).flatten()
    for ax, name in zip(panels, names, strict=False):
        _plot_losses(ax, steps, history, name)
        ax.set_title(name)
    schedule = panels[len(names) :]
    _plot(schedule[0], steps, [report["learning_rate"] for report in history], GRAY)
    schedule[0].set_title("learning rate")
    if walks:
        panels[0].legend(frameon=False, fontsize=9)
        _plot_walk(schedule[1], steps, history)
    for ax in panels:
        ax.set_xlabel("step")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        ax.tick_params(labelbottom=True)
    for ax in schedule[1 + walks :]:
        ax.set_axis_off()
    return figure


def _plot_losses(ax: Axes, steps: Sequence[int], history: Sequence[Mapping[str, Any]], name: str) -> None:
    for key, label, color in ((name, "logits", CURVE_COLORS[0]), (f"walked {name}", "walked logits", CURVE_COLORS[1])):
        if key in history[0]["losses"]:
            _plot(ax, steps, [report["losses"][key] for report in history], color, label)


def _plot_walk(ax: Axes, steps: Sequence[int], history: Sequence[Mapping[str, Any]]) -> None:
    """Draw the number of steps of the walk, and on an axis at the right, in logarithms, its temperature."""
    _plot(ax, steps, [report["walk_steps"] for report in history], CURVE_COLORS[2])
    ax.set_title("walk")
    ax.set_ylabel("steps", color=CURVE_COLORS[2])
    right = ax.twinx()
    _plot(right, steps, [report["walk_temperature"] for report in history], CURVE_COLORS[3])
    right.set_yscale("log")
    right.set_ylabel("temperature", color=CURVE_COLORS[3])
    right.spines[["top", "left"]].set_visible(False)


def _plot(ax: Axes, steps: Sequence[int], values: Sequence[float], color: str, label: str = "") -> None:
    marker = "." if len(steps) == 1 else ""  # a line of one point cannot be seen
    ax.plot(steps, values, color=color, label=label, linewidth=1.4, marker=marker)
