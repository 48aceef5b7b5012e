"""The walk's share of the frame time, per network and size of the photo.

    python -m bench.frame_share --photo PHOTO --embeddings MAP.npz [--weights NAME=FILE ...] [--json FILE]

Network (preprocessing, encoder, decoder, up-sampling, score) and walks take turns; a walk gets a time only after it was
checked beside the exact one in the same run.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rwpm_fast import networks
from rwpm_fast.benchmark import Case, Limits, record, succeeded
from rwpm_fast.benchmark.fps import Device
from rwpm_fast.cli.options import add_threads_option, given, set_threads, torch_device
from rwpm_fast.io.files import write_json
from rwpm_fast.io.images import read_image
from rwpm_fast.networks import Network

from .frames import METHODS, Frames
from .walks import CHECKED

KIND = "share"
SIZES = ("640x360", "1280x720", "1920x1080", "2048x1024")
SMALLEST = 64  # pixels a side of a photo
NOTES = (
    "A network takes its time whatever its weights are, so they are drawn at random where no file is named; of "
    "Mask2Anomaly's refinement alone, which reads the maps of queries that are sure, random weights leave little.",
    "Random weights make no manifolds: behind them the walk runs on the embeddings of the file named, enlarged "
    "bilinearly to the network's map and cut or filled up with zeros to its channels, and on values that a random "
    "linear head makes of them.",
    f"Of a walk's first sub-map {CHECKED} channels are checked at most, since every channel walks by itself.",
)
COLUMNS = ("network", "photo", "map", "network, s", "walk", "path", "walk, s", "share", "frames/s", "error, beside")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.frame_share", description=__doc__.splitlines()[0])
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        return share(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--networks", nargs="+", choices=METHODS, default=list(METHODS), help="(default: all)")
    parser.add_argument(
        "--sizes", nargs="+", default=list(SIZES), metavar="WxH", help=f"of photos (default: {' '.join(SIZES)})"
    )
    parser.add_argument("--photo", type=Path, help="a real photo, resized to the sizes")
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="NAME=FILE", help="of networks (default: drawn at random)"
    )
    parser.add_argument("--embeddings", type=Path, metavar="NPZ", help="embedding [D, H, W] behind random weights")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of the walk (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    add_threads_option(parser)
    parser.add_argument("--rounds", type=int, default=3, help="turns of network and walks (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="leave out what a run takes (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to FILE")


def share(options: argparse.Namespace) -> int:
    """Run what the options say, print the table and write the record.

    Returns:
        0; 1 when a network failed or a walk was not what it should be.
    """
    # All that a user may have got wrong comes before any work.
    set_threads(options.threads)
    stage = Device(str(torch_device(options.device)))
    limits = Limits(seconds=options.seconds, rounds=options.rounds)
    if not 0 < options.tolerance < 1:
        raise ValueError(f"--tolerance: expected a number in (0, 1), got {options.tolerance:g}")
    sizes = sorted(map(size_of, options.sizes), key=lambda size: size[0] * size[1])
    weights = weights_of(options.weights, options.networks)
    if options.photo is None:
        raise ValueError("--photo: expected the file of a photo of a street; networks and walks run on it")
    photo = read_image(options.photo)
    random = [name for name in options.networks if name != "compact" and name not in weights]
    if random and options.embeddings is None:
        raise ValueError(f"--embeddings: expected a file, for {', '.join(random)}; or give --weights {random[0]}=FILE")
    if options.embeddings is not None:
        Case.of_file(options.embeddings)
    torch.manual_seed(0)
    made = [network_of(name, weights.get(name)).to(stage.device) for name in dict.fromkeys(options.networks)]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)

    cases = []
    for network in made:
        source = options.embeddings if network.name in random else None
        frames = Frames(network, source, options.tolerance, limits, stage)
        drawn = weights[network.name].name if network.name in weights else "random" if source else "the package's"
        cases += [frames.measure(resized(photo, size)) | {"weights": drawn} for size in sizes]
    words = given(argparse.Namespace(**{**vars(options), "json": None}), add_arguments)
    taken = record(cases, shlex.join(["python", "-m", "bench.frame_share", *words]), limits)
    taken |= {"kind": KIND, "machine": stage.facts(), "notes": NOTES, "limits": {"seconds": limits.seconds}}
    print(markdown(taken), end="")
    if options.json:
        write_json(options.json, taken)
    return 0 if succeeded(taken) and not any("failed" in case for case in cases) else 1


def network_of(name: str, weights: Path | None) -> Network:
    """A network with its weights, or with some drawn at random; the compact one always has its own."""
    drawn = weights is None and name != "compact"
    return networks.NETWORKS[name]() if drawn else networks.load(name, weights)


def size_of(text: str) -> tuple[int, int]:
    """Width and height of a photo from WxH."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) >= SMALLEST for side in sides):
        raise ValueError(f"--sizes: expected WxH as in 1280x720, {SMALLEST} pixels or more a side, got {text!r}")
    return int(sides[0]), int(sides[1])


def weights_of(words: list[str], wanted: list[str]) -> dict[str, Path]:
    """Files of weights by network, from NAME=FILE."""
    files = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not equals or name not in wanted:
            raise ValueError(f"--weights: expected NAME=FILE with a name of {', '.join(wanted)}, got {word!r}")
        files[name] = Path(file)
    return files


def resized(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A photo [H, W, 3] in another width and height."""
    from PIL import Image

    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))


def markdown(record: dict[str, Any]) -> str:
    """A record as Markdown: machine, command, table, notes."""
    facts = record["machine"]
    where = facts.get("gpu", {}).get("name") or f"{facts['processor']}, {facts['torch_threads']} threads"
    lines = [
        f"{where}, torch {facts['torch']}, rwpm_fast {facts['rwpm_fast']} at {record['commit'] or 'no commit'}, "
        f"rounds: {record['rounds']}",
        "",
        f"    {record['command']}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *(_line(case, row) for case in record["cases"] for row in case["rows"] or [{}]),
        "",
        *(f"- {text}" for text in record["notes"]),
    ]
    return "\n".join(lines) + "\n"


def _line(case: dict[str, Any], row: dict[str, Any]) -> str:
    cells = [case["network"], "x".join(map(str, case["photo"]))]
    if not row:
        cells += ["", _left_out(case)]
    else:
        cells += ["x".join(map(str, case["map"][-2:])), f"{case['network_seconds']:.3g}"]
        cells.append(f"{row['value_channels']} {row['walked']}, n = {row['parts']}")
        if "skipped" in row or "failed" in row:
            cells += ["", _left_out(row)]
        elif not row["matched"]:
            cells += [row["path"], "refused: not what the exact walk gives, or not twice the same"]
        else:
            cells += [row["path"], f"{row['seconds']:.3g}", f"{row['share']:.1%}", f"{row['frames_per_second']:.3g}"]
    cells += [""] * (len(COLUMNS) - 1 - len(cells))
    cells.append(f"{row['error']:.1e}, {row['against']}" if "error" in row else "")
    return f"| {' | '.join(cells)} |"


def _left_out(what: dict[str, Any]) -> str:
    return f"not run: {what['skipped']}" if "skipped" in what else f"failed: {what['failed']}"


if __name__ == "__main__":
    sys.exit(main())
