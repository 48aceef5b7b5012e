"""Figure of a stream: latencies over time, what a frame takes, and what became of the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .figures import CURVE_COLORS, GRAY, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def latency_chart(
    points: Sequence[tuple[int, float]],
    percentiles: Mapping[str, float],
    stages: Mapping[str, float],
    counts: Mapping[str, int],
    *,
    deadline: float | None = None,
) -> Figure:
    """Draw how long the frames of a stream took.

    Args:
        points: number of a frame and latency in seconds, in order; of a long stream the largest of several frames.
        percentiles: name to latency in seconds, such as "p99".
        stages: name to seconds of a frame, on average.
        counts: name to number of frames, such as "dropped".
        deadline: seconds; None without one.

    Raises:
        ValueError: no points.
        ImportError: matplotlib is not installed.
    """
    if not points:
        raise ValueError("points: expected one frame or more, got none")
    figure = blank_figure((11.0, 3.6))
    course, side = figure.subplots(1, 2, width_ratios=[3, 1])
    frames, seconds = zip(*points, strict=True)
    style = {"marker": "."} if len(points) < 40 else {}
    course.plot(frames, [1e3 * value for value in seconds], color=CURVE_COLORS[3], linewidth=0.9, **style)
    for (name, value), line in zip(percentiles.items(), ("-", "--", ":"), strict=False):
        course.axhline(1e3 * value, color=GRAY, linestyle=line, linewidth=1, label=f"{name} {1e3 * value:.1f} ms")
    if deadline is not None:
        label = f"deadline {1e3 * deadline:g} ms"
        course.axhline(1e3 * deadline, color=CURVE_COLORS[1], linewidth=1.4, label=label)
    course.set(title="latency", xlabel="frame", ylabel="ms")
    course.set_ylim(bottom=0)
    course.xaxis.get_major_locator().set_params(integer=True)
    course.spines[["top", "right"]].set_visible(False)
    course.legend(frameon=False, fontsize=9, loc="best")
    _bars(side, stages)
    figure.supxlabel("   |   ".join(f"{count} {name}" for name, count in counts.items()), fontsize=10)
    return figure


def _bars(ax: Axes, stages: Mapping[str, float]) -> None:
    names = list(stages)
    milliseconds = [1e3 * seconds for seconds in stages.values()]
    bars = ax.barh(names, milliseconds, color=CURVE_COLORS[: len(names)])
    ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    ax.set(title="a frame's stages", xlabel="ms")
    ax.set_xlim(0, 1.3 * max(milliseconds))  # room for the numbers
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
