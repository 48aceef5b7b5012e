"""Time the exact metrics of score maps in files beside reading the same files.

python -m bench.score_files --json OUT.json
python -m bench.score_files --maps 1203 --json OUT.json    # Lost & Found's test split in number and size

The maps are synthetic: anomalies in a rectangle of 0.3 % of the pixels, whose scores overlap with those of the road,
of another contrast in every photo. Reading comes first, so that what the system keeps of the files helps the metrics,
which read maps twice, as it does in use.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rwpm_fast.benchmark.machine import commit, facts
from rwpm_fast.benchmark.memory import resident
from rwpm_fast.data import Dataset, folders
from rwpm_fast.evaluate import EvaluationConfig
from rwpm_fast.evaluate import run as evaluate
from rwpm_fast.io.console import run_command
from rwpm_fast.io.files import write_json
from rwpm_fast.io.markdown import markdown_table
from rwpm_fast.io.score_maps import read_score_map

SUMMARY = "Time the exact metrics of score maps in files beside reading the same files."
METHODS = {"first": 2.5, "second": 2.4}  # contrast of anomalies, in standard deviations of the road


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.score_files", description=SUMMARY)
    parser.add_argument("--maps", type=int, default=60, metavar="N", help="of each method (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"), help="default: 1024 2048"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="K", help="that share the maps (default: 1)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for the files (default: a temporary one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record")
    return run_command(parser, measure, arguments)


def measure(options: argparse.Namespace) -> int:
    """Make the files, measure, print the table, and write the record."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        dataset = make_files(Path(name), options.maps, tuple(options.size))
        found = {
            "reading": timed(lambda: read(dataset, Path(name), list(METHODS)[:1])),
            "metrics": timed(lambda: metrics(dataset, Path(name), list(METHODS)[:1], options.processes)),
            "reading, two methods": timed(lambda: read(dataset, Path(name), list(METHODS))),
            "comparison, two methods": timed(lambda: metrics(dataset, Path(name), list(METHODS), options.processes)),
        }
    peak = resident("VmHWM")
    print(table(found, options.maps))
    print(f"most memory held: {peak / 2**20:.0f} MiB")
    if options.json:
        height, width = options.size
        command = (
            f"python -m bench.score_files --maps {options.maps} --size {height} {width} --processes {options.processes}"
        )
        record = {"kind": "score files", "command": command, "commit": commit(), "machine": facts()}
        write_json(options.json, {**record, "maps": options.maps, "peak_bytes": peak, "steps": found})
    return 0


def make_files(folder: Path, maps: int, size: tuple[int, int]) -> Dataset:
    """Write photos without content, labels, and the maps of both methods."""
    for name in ("images", "labels", *METHODS):
        (folder / name).mkdir()
    random = np.random.default_rng(0)
    height, width = size
    tall, wide = max(1, height // 18), max(1, width // 18)
    for index in range(maps):
        labels = np.zeros(size, np.uint8)
        top, left = random.integers(height - tall), random.integers(width - wide)
        labels[-height // 8 :] = 255
        labels[top : top + tall, left : left + wide] = 1
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / f"images/{index}.png", compress_level=1)
        Image.fromarray(labels).save(folder / f"labels/{index}.png")
        road = random.normal(size=size).astype(np.float32)
        for method, contrast in METHODS.items():
            np.save(folder / method / f"{index}.npy", road + np.float32(contrast + index % 7 / 7) * (labels == 1))
    return folders(folder / "images", folder / "labels")


def read(dataset: Dataset, folder: Path, methods: list[str]) -> None:
    """Read all labels, and the maps of some methods."""
    for frame in dataset:
        frame.read_labels()
        for method in methods:
            read_score_map(folder / method / f"{frame.id}.npy")


def metrics(dataset: Dataset, folder: Path, methods: list[str], processes: int) -> None:
    """Compute the metrics of some methods, and of several their comparison."""
    maps = {method: folder / method for method in methods}
    evaluate(EvaluationConfig(datasets=dataset, scores_from=maps, processes=processes)).markdown()


def timed(work: Any) -> dict[str, float]:
    """Seconds of a piece of work by the clock, and by this process alone."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - begin_cpu}


def table(steps: dict[str, dict[str, float]], maps: int) -> str:
    """The steps, a row each, and how often the second of two takes the time of the first."""
    rows = []
    for name, found in steps.items():
        before = steps["reading, two methods" if "two methods" in name else "reading"]
        ratios = [f"{found[clock] / max(before[clock], 1e-9):.2f}" for clock in ("seconds", "cpu")]
        rows.append([name, f"{1e3 * found['seconds'] / maps:.1f}", f"{1e3 * found['cpu'] / maps:.1f}", *ratios])
    return markdown_table(["step", "ms a photo", "of the process, ms", "times reading", "of the process"], rows)


if __name__ == "__main__":
    raise SystemExit(main())
