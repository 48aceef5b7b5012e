"""The figure ``tighten``: how the walk draws the embeddings of a class together (figure 2 of the RWPM supplement)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.extras import require_extras
from ..io.files import atomic_write, make_folder_of, write_json
from ..io.markdown import markdown_table
from ..io.outputs import check_outputs
from ..io.progress import progress
from ..io.text import printable
from ..ops.settings import DEFAULTS, WalkSettings
from .loading import load_network
from .options import FIGURE_SUFFIXES, WALK_OPTIONS, add_network_options, check_figure_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..metrics.tightness import Tightness
    from ..scoring.tightening import Neighbors, PhotoPixels

SUMMARY = "Show how the walk draws a photo's embeddings of a class together: neighbors, projection, spread, margin."

NEIGHBORS = 5
LEAST_PIXELS = NEIGHBORS + 1  # of a class: it could hold a pixel and its neighbors; smaller ones are tight by chance
SETTINGS = ("alpha", "steps", "temperature", "tolerance")
COSINES = ("cosine_before", "cosine_after")
NUMBERS = ("spread", "margin", "mean_spread", "mean_margin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, metavar="PHOTO", help="photo; it needs no labels")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=f"the figure ({', '.join(FIGURE_SUFFIXES)})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write neighbors and numbers of every step to FILE")
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="class to show, as the network sees it (default: that of --pixel, else the one with the most pixels)",
    )
    parser.add_argument(
        "--pixel",
        type=int,
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="of the photo, whose neighbors are shown (default: the class's most typical)",
    )
    group = parser.add_argument_group("walk of the embeddings, as published: uncut, without an anchor")
    for name in SETTINGS:
        default = getattr(DEFAULTS, name)
        group.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{WALK_OPTIONS[name]} (default: %(default)s)"
        )
    group = parser.add_argument_group("projection")
    group.add_argument(
        "--projection",
        metavar="METHOD",
        default="pca",
        help="pca, whose distances show how tight; or tsne, which shows who belongs together (default: %(default)s)",
    )
    group.add_argument(
        "--points",
        type=int,
        metavar="N",
        default=1000,
        help="pixels of the class to draw, and of all others together, at most (default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="of this choice, and of t-SNE (default: %(default)s)")
    add_network_options(parser)


def run(options: argparse.Namespace) -> int:
    settings = WalkSettings(**{name: getattr(options, name) for name in SETTINGS})
    _check(options)
    photo = _read(options)
    network = load_network(options)
    classes = network.classes
    if options.class_name is not None and options.class_name not in classes:
        raise ValueError(f"--class: expected one of {', '.join(classes)}, got {options.class_name!r}")

    from ..scoring.scorer import Scorer
    from ..scoring.tightening import nearest, photo_pixels, tighten
    from ..viz.figures import figure_bytes
    from ..viz.projection import project
    from ..viz.tightening import TightenedClass, tightening_figure

    analysis = Scorer(network).analyze(photo)
    pixels = photo_pixels(analysis)
    counts = pixels.classes.bincount(minlength=len(classes))
    label, pixel = _choose(options, pixels, classes, counts.tolist())
    counted = pixels.classes.where(counts[pixels.classes] >= LEAST_PIXELS, -1)
    walked, numbers = tighten(
        pixels.embeddings, counted, settings, progress=lambda steps: progress(steps, "walk", "step")
    )
    neighbors = nearest(pixel, pixels.embeddings, walked, NEIGHBORS)
    record = {
        "photo": str(options.photo),
        "network": network.name,
        "walk": {name: getattr(settings, name) for name in SETTINGS},
        "classes": {name: count for name, count in zip(classes, counts.tolist(), strict=True) if count},
        "class": classes[label],
        **_neighbors(pixels, pixel, classes, neighbors),
        "steps": _steps(numbers, label),
    }
    sample = _sample(options, (pixels.classes == label).numpy(), [pixel, *neighbors[0].pixels, *neighbors[1].pixels])
    before, after = (embeddings.cpu().numpy()[sample] for embeddings in (pixels.embeddings, walked))
    walk = f"{network.name}, α = {settings.alpha:g}, τ = {settings.temperature:g}"
    drawn = f"projection: {len(sample)} of {len(counted)} pixels, drawn with seed {options.seed}"
    shown = TightenedClass(
        photo=photo,
        area=(analysis.plain.segmentation == label).cpu().numpy(),
        name=classes[label],
        label=label,
        pixels=pixels,
        pixel=pixel,
        nearest=neighbors,
        sample=sample,
        projection=project(before, after, options.projection, options.seed),
        numbers=numbers,
        caption="   |   ".join([options.photo.name, walk, drawn]),
    )
    picture = figure_bytes(tightening_figure(shown), options.out.suffix[1:].lower())
    atomic_write(options.out, lambda file: file.write(picture))
    if options.json is not None:
        write_json(options.json, record)
    _print(record)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Check, before any work, what does not depend on photo and network."""
    from ..viz.projection import MODULES

    check_figure_file(options.out, "--out")
    if options.projection not in MODULES:
        raise ValueError(f"--projection: expected {' or '.join(MODULES)}, got {options.projection!r}")
    if options.points < 1:
        raise ValueError(f"--points: expected 1 or more pixels to draw, got {options.points}")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"--seed: expected a number from 0 to {2**32 - 1}, got {options.seed}")
    require_extras("figure", "PIL.Image", "matplotlib.figure", MODULES[options.projection])
    outputs = [(name, file) for name, file in (("--out", options.out), ("--json", options.json)) if file is not None]
    check_outputs(outputs, [options.photo, options.weights], "give each a file of its own")
    for name, file in outputs:
        make_folder_of(file, name)


def _read(options: argparse.Namespace) -> NDArray:
    """Read the photo, and check that the pixel lies in it."""
    from ..io.images import read_image

    photo = read_image(options.photo, upright=True)
    if options.pixel is not None:
        height, width = photo.shape[:2]
        row, column = options.pixel
        if not (0 <= row < height and 0 <= column < width):
            wanted = f"a row from 0 to {height - 1} and a column from 0 to {width - 1}"
            raise ValueError(f"--pixel: expected {wanted} in {options.photo}, got {row} {column}")
    return photo


def _choose(
    options: argparse.Namespace, pixels: PhotoPixels, classes: Sequence[str], counts: Sequence[int]
) -> tuple[int, int]:
    """Choose the class and the pixel to show."""
    large = {name: count for name, count in zip(classes, counts, strict=True) if count >= LEAST_PIXELS}
    if not large:
        raise ValueError(
            f"{options.photo}: expected a class with {LEAST_PIXELS} pixels of the embedding map or more, got none; "
            "give a larger photo"
        )
    seen = ", ".join(f"{name} ({count})" for name, count in sorted(large.items(), key=lambda item: -item[1]))
    name, pixel, given = options.class_name, None, "--class"
    if options.pixel is not None:
        pixel = pixels.at(*options.pixel)
        there = classes[int(pixels.classes[pixel])]
        if name is not None and name != there:
            row, column = options.pixel
            raise ValueError(
                f"--pixel: expected a pixel that the network sees as {name}, got {row} {column}, which it sees as "
                f"{there}; give another pixel, or leave out --class"
            )
        name, given = there, "--pixel" if name is None else "--class"
    if name is None:
        name = max(large, key=large.__getitem__)
    if name not in large:
        raise ValueError(
            f"{given}: expected a class with {LEAST_PIXELS} pixels of the embedding map or more, got {name} with "
            f"{counts[classes.index(name)]}; the network sees {seen} in {options.photo}"
        )
    label = classes.index(name)
    return label, pixels.typical(label) if pixel is None else pixel


def _sample(options: argparse.Namespace, member: NDArray, always: Sequence[int]) -> NDArray:
    """Draw pixels of the class and as many others, [n] numbers in order, those to be shown always among them."""
    import numpy as np

    random = np.random.default_rng(options.seed)
    drawn = [always]
    for places in (np.flatnonzero(member), np.flatnonzero(~member)):
        drawn.append(random.choice(places, min(options.points, len(places)), replace=False))
    return np.unique(np.concatenate(drawn))


def _neighbors(
    pixels: PhotoPixels, pixel: int, classes: Sequence[str], neighbors: tuple[Neighbors, Neighbors]
) -> dict[str, Any]:
    """The pixel and its neighbors, JSON-ready; places are those of centers, in pixels of the photo."""

    def facts(place: int) -> dict[str, Any]:
        row, column = pixels.centers[place].long().tolist()
        return {"row": row, "column": column, "class": classes[int(pixels.classes[place])]}

    return {"pixel": facts(pixel)} | {
        f"nearest_{moment}": [
            {**facts(place), "cosine_before": before, "cosine_after": after}
            for place, before, after in zip(found.pixels, found.before, found.after, strict=True)
        ]
        for moment, found in zip(("before", "after"), neighbors, strict=True)
    }


def _steps(numbers: Sequence[Tightness], label: int) -> list[dict[str, float]]:
    """Spread and margin of every step, of the class and as means over the classes."""
    rows = []
    for step, found in enumerate(numbers):
        spread, margin = found.mean()
        own = {"spread": float(found.spread[label]), "margin": float(found.margin[label])}
        rows.append({"step": step, **own, "mean_spread": spread, "mean_margin": margin})
    return rows


def _print(record: dict[str, Any]) -> None:
    """Print the pixel's neighbors and the numbers of every step."""
    pixel, name = record["pixel"], record["class"]
    print(printable(f"{record['photo']}: {name}, pixel {pixel['row']} {pixel['column']}"), end="\n\n")
    rows = [
        [f"{rank}, {moment}", f"{n['row']} {n['column']}", n["class"], *(f"{n[c]:.4f}" for c in COSINES)]
        for moment in ("before", "after")
        for rank, n in enumerate(record[f"nearest_{moment}"], 1)
    ]
    print(markdown_table(["nearest", "row, column", "class", "cosine before", "after"], rows) + "\n")
    header = ["step", f"spread of {name}", f"margin of {name}", "mean spread", "mean margin"]
    print(markdown_table(header, [[s["step"], *(f"{s[k]:.4f}" for k in NUMBERS)] for s in record["steps"]]))
