"""Figures: a photo with its anomaly scores without and with the walk, and ROC and precision-recall curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..data.frames import ANOMALY, VOID
from ..io.arrays import as_array
from ..io.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from ..metrics import Curve

OUTLINE_COLOR = "#00f5d4"  # of anomalies; unlike any color of the color maps, and rare in photos
GRAY = "#8c8c8c"  # of pixels without a score
# Of curves; the first two are those without and with the walk.
CURVE_COLORS = (
    "#8c6bb1",
    "#e6550d",
    "#1b9e77",
    "#2b7bba",
    "#c79a00",
    "#d6278b",
    "#17a2b8",
    "#8c510a",
    "#6c757d",
    "#222222",
)
LINE_STYLES = ("-", "--", ":")
RANGE_PERCENTILES = (1.0, 99.9)  # of the scores: ends of the color range
MAX_SIDE = 960  # pixels of a map in a panel: sharp on a screen, and the file stays small


def panel(
    photo: ArrayLike,
    before: ArrayLike,
    after: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    titles: tuple[str, str, str, str] = ("Photo", "Without the walk", "With the walk", "Difference"),
    caption: str = "",
    published: ArrayLike | None = None,
    own_weights: ArrayLike | None = None,
) -> Figure:
    """Draw a photo, its score without the walk, its score with the walk, and the difference of the two.

    Of the anchored walk a column between them shows what it adds: its weights of the pixels' own values, above the
    score of the published walk.

    The scores share one color range, percentiles 1 to 99.9 of the maps together (see :func:`score_range`), so that
    equal colors mean equal scores. The difference, after minus before, has a diverging color map centered at 0.
    Pixels without a finite score, and void pixels, are gray.

    Args:
        photo: [H, W, 3], 0..255; array or tensor of any number type.
        before: [H, W] anomaly score without the walk, higher = more anomalous; array or tensor.
        after: [H, W] anomaly score with the walk; array or tensor.
        labels: [H, W], 0 inlier, 1 anomaly, 255 void; array or tensor. Anomalies are outlined in every map.
        titles: of photo, before, after and difference.
        caption: a line below the maps.
        published: [H, W] anomaly score with the published walk; with ``own_weights``, and None without.
        own_weights: [h, w] in [0, 1], r of the anchored walk, of any size.

    Raises:
        ValueError: shapes that do not match.
        ImportError: matplotlib is not installed.
    """
    photo, before, after, labels = _check_maps(photo, before, after, labels)
    height, width = before.shape
    shape = np.clip(height / width, 0.25, 2.5)
    scores = [(titles[1], before), (titles[2], after)]
    if published is not None:
        scores.insert(1, ("With the published walk", to_array("published", published)))
    figure = blank_figure((13.0, 13.0 * 0.92 / len(scores) * shape * 2 + 1.1))
    axes = figure.subplots(2, len(scores))
    with np.errstate(invalid="ignore"):  # inf - inf: neither score is finite
        change = after - before
    low, high = score_range([score for _, score in scores], labels)
    limit = _largest_change(change, labels)

    shown = np.clip(photo, 0, 255).astype(np.uint8)
    if labels is not None:
        void = labels == VOID
        shown = np.where(void[..., None], (0.45 * shown + 0.55 * 140).astype(np.uint8), shown)
        scores = [(title, np.where(void, np.nan, score)) for title, score in scores]
        change = np.where(void, np.nan, change)
    extent = (0, width, height, 0)
    axes[0, 0].imshow(downsample(shown).astype(np.uint8), extent=extent)
    if own_weights is not None:
        weights = to_array("own_weights", own_weights)
        axes[0, 1].imshow(weights, cmap=color_map("viridis"), vmin=0, vmax=1, extent=extent)
    difference = axes[0, -1].imshow(
        downsample(change), cmap=color_map("RdBu_r"), vmin=-limit, vmax=limit, extent=extent
    )
    for ax, (_, score) in zip(axes[1], scores, strict=True):
        image = ax.imshow(downsample(score), cmap=color_map("inferno"), vmin=low, vmax=high, extent=extent)
    of_weights = [] if own_weights is None else ["Weight of a pixel's own value, 0 to 1"]
    top_titles = [titles[0], *of_weights, titles[3]]
    for ax, title in zip(axes.flat, [*top_titles, *(title for title, _ in scores)], strict=True):
        ax.set_title(title, fontsize=12, loc="left")
        ax.set_axis_off()
        if labels is not None:
            _outline(ax, labels)
    first, last = RANGE_PERCENTILES
    for source, row, text in (
        (difference, axes[0], "with minus without"),
        (image, axes[1], f"score, percentiles {first:g} to {last:g} of all"),
    ):
        figure.colorbar(source, ax=list(row), fraction=0.025, pad=0.01, extend="both").set_label(text, fontsize=9)
    notes = [caption] if caption else []
    if labels is not None:
        notes.append("outline: labeled anomaly, gray: void")
    if notes:
        figure.supxlabel("   |   ".join(notes), fontsize=10)
    return figure


def score_panel(photo: ArrayLike, score: ArrayLike, *, title: str = "Anomaly score") -> Figure:
    """Draw a photo beside its score, in the colors of :func:`panel`.

    Args:
        photo: [H, W, 3], 0..255; array or tensor of any number type.
        score: [H, W] anomaly score, higher = more anomalous; array or tensor.
        title: of the score.

    Raises:
        ValueError: shapes that do not match.
        ImportError: matplotlib is not installed.

    Example:
        >>> Path("street.png").write_bytes(figure_bytes(score_panel(photo, scored.score, title="SynBoost")))
    """
    photo, score, _, _ = _check_maps(photo, score, score, None)
    height, width = score.shape
    figure = blank_figure((13.0, 13.0 * 0.46 * np.clip(height / width, 0.25, 2.5) + 0.5))
    left, right = figure.subplots(1, 2)
    low, high = score_range([score])
    extent = (0, width, height, 0)
    left.imshow(downsample(np.clip(photo, 0, 255).astype(np.uint8)).astype(np.uint8), extent=extent)
    image = right.imshow(downsample(score), cmap=color_map("inferno"), vmin=low, vmax=high, extent=extent)
    for ax, text in ((left, "Photo"), (right, title)):
        ax.set_title(text, fontsize=12, loc="left")
        ax.set_axis_off()
    first, last = RANGE_PERCENTILES
    bar = figure.colorbar(image, ax=[left, right], fraction=0.025, pad=0.01, extend="both")
    bar.set_label(f"score, percentiles {first:g} to {last:g}", fontsize=9)
    return figure


def roc_pr_figure(curves: Mapping[str, Curve]) -> Figure:
    """Draw ROC and precision-recall curves, with the steps whose areas are AuROC and AP.

    Args:
        curves: name to curve, in the order of the legend; long curves are thinned to what the eye can see.

    Raises:
        ValueError: no curve, or one without anomalies or without inliers.
        ImportError: matplotlib is not installed.
    """
    if not curves:
        raise ValueError("curves: expected one or more, got none")
    for name, curve in curves.items():
        if not (curve.positives and curve.negatives):
            found = f"{curve.positives} and {curve.negatives}"
            raise ValueError(f"curves: {name}: expected pixels of anomalies and of inliers, got {found}")
    figure = blank_figure((10.0, 3.6))
    roc, precision_recall = figure.subplots(1, 2)
    for index, (name, curve) in enumerate(curves.items()):
        curve = curve.thinned()
        style = {
            "color": CURVE_COLORS[index % len(CURVE_COLORS)],
            "linestyle": LINE_STYLES[index // len(CURVE_COLORS) % len(LINE_STYLES)],
            "linewidth": 1.4,
        }
        recall = curve.tp / curve.positives  # [K]
        # between two thresholds the negatives come first; negatives tied with positives come together with them
        false_positives = np.stack([curve.fp_above, curve.fp], axis=1).ravel() / curve.negatives  # [2 K]
        true_positives = np.stack([np.append(0, recall[:-1]), recall], axis=1).ravel()  # [2 K]
        roc.plot([0, *false_positives, 1], [0, *true_positives, 1], label=name, **style)
        precision = curve.tp / (curve.tp + curve.fp)
        precision_recall.plot([0, *recall], [precision[0], *precision], drawstyle="steps-pre", **style)
    roc.axhline(0.95, color=GRAY, linewidth=0.8, linestyle=":")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    precision_recall.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    for ax in (roc, precision_recall):
        ax.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def score_range(maps: Sequence[ArrayLike], labels: ArrayLike | None = None) -> tuple[float, float]:
    """Return one color range for score maps: percentiles 1 and 99.9 of their finite scores together.

    The upper percentile is high because anomalies are rare: it must not cut off 1 % of the pixels. Constant maps get a
    range of width 1 around their value, maps without a finite score get 0 to 1.

    Args:
        maps: [H, W] score maps; arrays or tensors.
        labels: [H, W], 255 where pixels do not count; None if all do.
    """
    scores = np.stack([to_array("maps", score) for score in maps])
    if labels is not None:
        scores = scores[:, to_array("labels", labels) != VOID]
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, RANGE_PERCENTILES))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def figure_bytes(figure: Figure, format: str = "png", *, quality: int | None = None) -> bytes:
    """Return a figure as the bytes of an image file.

    Args:
        figure: drawn at its own dpi.
        format: "png", "webp", "jpg", "svg", "pdf" or another one that matplotlib can write.
        quality: of "webp" and "jpg", 1 to 100; None for matplotlib's default.
    """
    stream = io.BytesIO()
    of_pillow: dict[str, Any] = (
        {} if quality is None else {"pil_kwargs": {"quality": quality}}
    )  # vector formats know none
    figure.savefig(stream, format=format, dpi=figure.dpi, **of_pillow)
    return stream.getvalue()


def blank_figure(size: tuple[float, float]) -> Figure:
    """Make an empty figure with its own canvas: without pyplot, so without global state and without a display.

    Args:
        size: width and height in inches; an inch has 100 pixels.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = import_extra("matplotlib.figure", "drawing pictures").Figure(
        size, dpi=100, layout="constrained", facecolor="white"
    )
    import_extra("matplotlib.backends.backend_agg", "drawing pictures").FigureCanvasAgg(figure)
    return figure


def color_map(name: str) -> Colormap:
    """Return one of matplotlib's color maps, with gray for NaN."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=GRAY)


def to_array(name: str, values: ArrayLike) -> NDArray:
    """Convert an array, or a tensor on any device, to an array."""
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
    return as_array(name, values)


def _check_maps(
    photo: ArrayLike, before: ArrayLike, after: ArrayLike, labels: ArrayLike | None
) -> tuple[NDArray, NDArray, NDArray, NDArray | None]:
    """Convert photo, scores and labels to arrays, scores to float64, and check that their shapes match."""
    before, after = (to_array(name, score).astype(np.float64) for name, score in (("before", before), ("after", after)))
    if before.ndim != 2 or 0 in before.shape:
        raise ValueError(f"before: expected a score map [H, W], got {list(before.shape)}")
    size = list(before.shape)
    for name, values, wanted in (
        ("after", after, size),
        ("photo", to_array("photo", photo), [*size, 3]),
        ("labels", None if labels is None else to_array("labels", labels), size),
    ):
        if values is not None and list(values.shape) != wanted:
            raise ValueError(f"{name}: expected {wanted} to match before {size}, got {list(values.shape)}")
    return to_array("photo", photo), before, after, None if labels is None else to_array("labels", labels)


def downsample(image: NDArray, max_side: int = MAX_SIDE) -> NDArray:
    """Average [H, W] or [H, W, 3] over square blocks, so that the longer side has at most ``max_side`` pixels.

    Blocks without a finite pixel become NaN.
    """
    block = -(-max(image.shape[:2]) // max_side)
    finite = np.isfinite(image)
    weight, total = finite.astype(np.float64), np.where(finite, image, 0.0)
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], block)
        weight, total = (np.add.reduceat(field, starts, axis) for field in (weight, total))
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def _largest_change(change: NDArray, labels: NDArray | None) -> float:
    """Return the half width of the color range of a difference: percentile 99.9 of its magnitude, or 1 if that is 0."""
    counted = np.isfinite(change) if labels is None else np.isfinite(change) & (labels != VOID)
    return float(np.percentile(abs(change[counted]), RANGE_PERCENTILES[1])) or 1.0 if counted.any() else 1.0


def _outline(ax: Axes, labels: NDArray) -> None:
    """Draw the outline of the anomalies."""
    # a border of inliers around the map closes the outline of an anomaly that the edge of the photo cuts
    anomaly = np.pad(labels == ANOMALY, 1).astype(np.float32)
    if anomaly.any():
        height, width = anomaly.shape
        ax.contour(
            np.arange(width) - 0.5, np.arange(height) - 0.5, anomaly, [0.5], colors=OUTLINE_COLOR, linewidths=1.1
        )
