"""The command ``python -m bench.frame_share``.

    python -m bench.frame_share --photo PHOTO --embeddings MAP.npz [--weights NAME=FILE ...] [--json FILE]

Network (preprocessing, encoder, decoder, up-sampling, score) and walks take turns; a walk gets a time only after it was
checked against the exact one in the same run.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rwpm_fast import networks
from rwpm_fast.benchmark import Case, Limits, open_device
from rwpm_fast.benchmark.record import shareable
from rwpm_fast.io.arguments import non_default_args
from rwpm_fast.io.console import run_command
from rwpm_fast.io.files import make_folder_of, write_json
from rwpm_fast.io.images import read_image
from rwpm_fast.io.outputs import check_outputs
from rwpm_fast.networks import Network
from rwpm_fast.scoring.device import set_threads, torch_device

from .frames import METHODS, Frames
from .record import FrameResult, ShareRecord, markdown

SIZES = ("640x360", "1280x720", "1920x1080", "2048x1024")
SMALLEST = 64  # pixels a side of a photo

SUMMARY = "The walk's share of the frame time, per network and size of the photo."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.frame_share", description=SUMMARY)
    add_arguments(parser)
    return run_command(parser, share, arguments)


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
    parser.add_argument("--threads", type=int, help="threads to use (default: torch's)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of network and walks (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="leave out what a run takes (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to FILE")


def share(options: argparse.Namespace) -> int:
    """Run what the options say, print the table and write the record.

    Returns:
        0; 1 when a network failed or a walk was not what it should be.
    """
    # All that a user may have got wrong comes before any work.
    set_threads(options.threads, "--threads")
    device = open_device(str(torch_device(options.device, "--device")))
    limits = Limits(seconds=options.seconds, rounds=options.rounds)
    if not 0 < options.tolerance < 1:
        raise ValueError(f"--tolerance: expected a number in (0, 1), got {options.tolerance:g}")
    sizes = sorted(map(size_of, options.sizes), key=lambda size: size[0] * size[1])
    weights = weights_of(options.weights, options.networks)
    if options.photo is None:
        raise ValueError("--photo: expected the file of a photo of a street; networks and walks run on it")
    photo = read_image(options.photo, upright=True)
    random = [name for name in options.networks if name != "compact" and name not in weights]
    if random and options.embeddings is None:
        raise ValueError(f"--embeddings: expected a file, for {', '.join(random)}; or give --weights {random[0]}=FILE")
    if options.embeddings is not None:
        Case.from_file(options.embeddings)
    torch.manual_seed(0)
    made = [network_of(name, weights.get(name)).to(device.name) for name in dict.fromkeys(options.networks)]
    if options.json:
        inputs = [options.photo, options.embeddings, *weights.values()]
        check_outputs([("--json", options.json)], inputs, "give another file")
        make_folder_of(options.json, "--json")

    frames: list[FrameResult] = []
    for network in made:
        source = options.embeddings if network.name in random else None
        photos = Frames(network, source, options.tolerance, limits, device)
        drawn = weights[network.name].name if network.name in weights else "random" if source else "the package's"
        frames += [replace(photos.measure(resized(photo, size)), weights=drawn) for size in sizes]
    words = non_default_args(argparse.Namespace(**{**vars(options), "json": None}), add_arguments)
    record = ShareRecord(
        command=shareable(["python", "-m", "bench.frame_share", *words]),
        machine=device.facts(),
        limits={"seconds": limits.seconds},
        rounds=limits.rounds,
        frames=tuple(frames),
    )
    if options.json:
        write_json(options.json, record.to_json())
    print(markdown(record), end="")
    return 0 if record.sound else 1


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


if __name__ == "__main__":
    sys.exit(main())
