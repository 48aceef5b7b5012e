"""Time a stream beside the same steps one after the other, at the pace of a camera, and under a deadline.

python -m bench.stream_rate --json OUT.json

Scores of both ways are compared first. Then they take turns, each timed by the clock and by the process, with the
share of a core that other processes took meanwhile: a ratio counts for something only where that is next to nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.benchmark.machine import commit, facts
from rwpm_fast.io.console import run_command
from rwpm_fast.io.files import write_json
from rwpm_fast.io.markdown import markdown_table
from rwpm_fast.presets import ANCHOR_SHARE
from rwpm_fast.scenes import render_scene
from rwpm_fast.stream import SourceInfo, Stream, StreamSettings, Summary, VideoFrame
from rwpm_fast.stream.stages import ScorerStages

SUMMARY = "Time a stream beside the same steps one after the other, at the pace of a camera, and under a deadline."
MAX_ERROR = 1e-4  # of the scores, absolute
SHORT = 100 / 150  # of the time that a frame takes in full: the deadline
SCENES = 4


class Frames:
    """Rendered frames in memory that come again and again.

    Args:
        photos: [H, W, 3] uint8 each.
        count: number of frames.
        rate: frames per second; None for frames without a time.
    """

    def __init__(self, photos: list[np.ndarray], count: int, rate: float | None = None) -> None:
        self.info = SourceInfo("rendered", "frames", "memory", rate=rate)
        self._photos, self._count = photos, count

    def __iter__(self) -> Iterator[VideoFrame]:
        for index in range(self._count):
            seconds = None if self.info.rate is None else index / self.info.rate
            yield VideoFrame(index, seconds, self._photos[index % len(self._photos)].copy())

    def close(self) -> None:
        """Nothing is open."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stream_rate", description=SUMMARY)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), metavar=("H", "W"), help="default: 360 640")
    parser.add_argument("--frames", type=int, default=60, help="of a run (default: %(default)s)")
    parser.add_argument("--paced-frames", type=int, default=300, help="of a run at a pace (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each stage (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=15.0, help="of the camera, frames/s (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record")
    return run_command(parser, run, arguments)


def run(options: argparse.Namespace) -> int:
    """Measure, print tables, and write the record."""
    torch.set_num_threads(options.threads)
    scorer = Scorer(networks.load("compact"), walk=Walk(anchor_share=ANCHOR_SHARE))
    photos = [render_scene(np.random.default_rng(seed), tuple(options.size))[0] for seed in range(SCENES)]
    check(scorer, photos)
    rounds = [
        {"one after the other": sequential(scorer, photos, options.frames), "stream": piped(scorer, photos, options)}
        for _ in range(options.rounds)
    ]
    whole = median(row["one after the other"]["seconds"] for row in rounds)
    paced = at_pace(scorer, photos, StreamSettings(), options.rate, options.paced_frames)
    deadline = SHORT * whole
    late = at_pace(scorer, photos, StreamSettings(deadline=deadline), 1 / deadline, options.paced_frames)
    print(table(rounds))
    for name, found in (("camera", paced), ("deadline", late)):
        print(f"{name}: {found}")
    if options.json:
        command = (
            f"python -m bench.stream_rate --size {options.size[0]} {options.size[1]} --frames {options.frames} "
            f"--paced-frames {options.paced_frames} --rounds {options.rounds} --threads {options.threads} "
            f"--rate {options.rate:g}"
        )
        record = {"kind": "stream", "command": command, "commit": commit(), "machine": facts(), "rounds": rounds}
        write_json(options.json, {**record, "threads": options.threads, "camera": paced, "deadline": late})
    return 0


def check(scorer: Scorer, photos: list[np.ndarray]) -> None:
    """Compare the scores of a stream with those of the scorer.

    Raises:
        ValueError: they differ by more than ``MAX_ERROR``.
    """
    settings = StreamSettings(all_frames=True)
    for result in Stream(Frames(photos, len(photos)), ScorerStages(scorer, settings), settings):
        error = float(np.abs(result.score - scorer(result.photo).score.numpy()).max())
        if not error <= MAX_ERROR:
            raise ValueError(f"scores: expected errors of at most {MAX_ERROR}, got {error}")


def sequential(scorer: Scorer, photos: list[np.ndarray], frames: int) -> dict[str, float]:
    """Time the stages one after the other."""
    stages = ScorerStages(scorer, StreamSettings())
    stages.prepare(photos[0], measured=False)
    clock = Clock()
    for frame in Frames(photos, frames):
        stages.score(stages.walk(stages.embed(frame.photo), 0))
    return clock.of(frames)


def piped(scorer: Scorer, photos: list[np.ndarray], options: argparse.Namespace) -> dict[str, Any]:
    """Time the stream, without its start."""
    settings = StreamSettings(all_frames=True)
    stream = Stream(Frames(photos, options.frames + 2), ScorerStages(scorer, settings), settings)
    results = iter(stream)
    next(results), next(results)
    clock = Clock()
    frames = sum(1 for _ in results)
    return {**clock.of(frames), "stages": means(stream.summary)}


def at_pace(
    scorer: Scorer, photos: list[np.ndarray], settings: StreamSettings, rate: float, frames: int
) -> dict[str, Any]:
    """Run a stream whose frames come at a rate."""
    stream = Stream(Frames(photos, frames, rate), ScorerStages(scorer, settings), settings)
    clock, latencies = Clock(), [result.latency for result in stream]
    numbers = stream.summary.as_dict()
    wanted = ("frames", "processed", "dropped", "degraded", "degradations", "deadline", "late", "latency")
    far = sum(latency > 1.2 * (settings.deadline or np.inf) for latency in latencies)
    return {
        **{name: numbers[name] for name in wanted},
        "rate": rate,
        "later_than_1.2_deadlines": far,
        "others": clock.of(frames)["others"],
    }


def means(summary: Summary) -> dict[str, float]:
    """Seconds of each stage of a frame."""
    return {name: seconds / summary.processed for name, seconds in summary.stages.items()}


class Clock:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._begin = (time.perf_counter(), time.process_time(), _busy())

    def of(self, frames: int) -> dict[str, float]:
        """Seconds of a frame by the clock and by the process, and cores that other processes kept busy."""
        now = (time.perf_counter(), time.process_time(), _busy())
        wall, cpu, busy = (later - earlier for later, earlier in zip(now, self._begin, strict=True))
        return {"seconds": wall / frames, "cpu": cpu / frames, "others": max(busy - cpu, 0.0) / wall}


def _busy() -> float:
    """Seconds that all cores together have worked so far; NaN where the system does not say."""
    try:
        ticks = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    except OSError:
        return float("nan")
    return (sum(ticks) - ticks[3] - ticks[4]) / 100


def table(rounds: list[dict[str, dict[str, Any]]]) -> str:
    """The rounds, a row each."""
    head = ["round", "one after the other", "stream", "ratio", "cores of others", "stages, ms"]
    rows = []
    for number, row in enumerate(rounds, 1):
        one, other = row["one after the other"], row["stream"]
        stages = ", ".join(f"{name} {1e3 * seconds:.0f}" for name, seconds in other["stages"].items())
        rates = [f"{1 / found['seconds']:.1f}/s" for found in (one, other)]
        others = f"{one['others']:.2f}, {other['others']:.2f}"
        rows.append([str(number), *rates, f"{one['seconds'] / other['seconds']:.2f}", others, stages])
    return markdown_table(head, rows)


if __name__ == "__main__":
    raise SystemExit(main())
