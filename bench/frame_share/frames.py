"""Frames of a network: its time and that of walks on its map, in turn, each walk checked first."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from rwpm_fast import Scorer, Walk
from rwpm_fast.benchmark import Limits, machine
from rwpm_fast.benchmark.device import Device
from rwpm_fast.benchmark.runner import failure, take_turns
from rwpm_fast.networks import Network
from rwpm_fast.presets import Preset, preset
from rwpm_fast.scoring.scorer import Analysis

from .record import FrameResult, WalkResult
from .walks import Task, check, measure, measure_sample, substitute_maps, values_of, walked_values

# Network: the published method whose settings of RoadAnomaly its map is walked with; without one uncut.
METHODS = {
    "compact": None,
    "dabnet": None,
    "deeplab_wrn38": "pebal",
    "rba_swin_b": "rba",
    "rba_swin_l": "rba",
    "mask2anomaly": "mask2anomaly",
}


@dataclass(eq=False)
class _Entry:
    """A walk on its way through the rounds: its row so far, and the result that was checked."""

    task: Task
    row: WalkResult
    result: Tensor | None = None
    times: list[float] = field(default_factory=list)


class Frames:
    """Photos of growing sizes through a network: times of it and of walks on its map.

    Args:
        network: whose photos they are.
        source: file of embeddings that stand for the network's own; None where its weights are real.
        tolerance: of the walks.
        limits: of time; what a run would take beyond them is left out.
        device: where the network is.
    """

    def __init__(self, network: Network, source: Path | None, tolerance: float, limits: Limits, device: Device) -> None:
        self.scorer, self.source, self.tolerance = Scorer(network), source, tolerance
        self.limits, self.device = limits, device
        self.before: tuple[int, float] | None = None  # pixels and seconds of the network on a smaller photo

    def measure(self, photo: np.ndarray) -> FrameResult:
        """Measure one photo [H, W, 3]."""
        network, (height, width) = self.scorer.network, photo.shape[:2]
        frame = FrameResult(network.name, (width, height))
        note(f"{network.name}, {width}x{height}")
        pixels = int(np.prod(network.padded_size((height, width))))
        if self.before and (estimate := self.before[1] * pixels / self.before[0]) > self.limits.seconds:
            return replace(frame, skipped=self._too_long(estimate, "by pixels, from a smaller photo"))
        try:
            return self._measured(frame, photo, pixels)
        except Exception as error:  # whatever a library raises, the others still run
            return replace(frame, failed=failure(error))

    def _measured(self, frame: FrameResult, photo: np.ndarray, pixels: int) -> FrameResult:
        @torch.inference_mode()
        def run() -> Analysis:
            analysis = self.scorer.analyze(photo)
            analysis.walked.score(self.scorer.score)
            return analysis

        seconds, analysis = self.device.timed(run)  # to warm up
        self.before = (pixels, seconds)
        if seconds > self.limits.seconds:
            return replace(frame, skipped=self._too_long(seconds, "it did"))
        walks = [self._prepare(task) for task in self._tasks(analysis)]
        times: list[float] = []
        turns = [lambda: times.append(self.device.timed(run)[0]), *(partial(self._run_once, walk) for walk in walks)]
        loads = take_turns(self.limits.rounds, turns, lambda turn, words: turn(), before=machine.load)
        network_seconds = median(times)
        self.before = (pixels, network_seconds)
        return replace(
            frame,
            map=tuple(walks[0].task.embedding_map.shape),
            embeddings="the network's own" if self.source is None else self.source.name,
            load=tuple(loads),
            network_seconds=network_seconds,
            network_runs=tuple(times),
            rows=tuple(_timed(walk, network_seconds) for walk in walks),
        )

    def _tasks(self, analysis: Analysis) -> list[Task]:
        network = self.scorer.network
        published = settings_of(network.name)
        tasks = []
        for walked in walked_values(network):
            maps = analysis.embedded.embedding_map, values_of(analysis, walked)
            maps = maps if self.source is None else substitute_maps(self.source, *maps)
            for parts in dict.fromkeys((published.parts, 1)):
                settings = (published.alpha, published.steps, published.temperature)
                walk = Walk(*settings, parts=parts, tolerance=self.tolerance)
                tasks.append(Task(walked, *maps, walk))
        return tasks

    def _prepare(self, task: Task) -> _Entry:
        """A walk with its row as far as its first run fills it, and the checked result; none where it was left out."""
        settings, pixels = task.walk.settings, math.prod(task.size)
        row = WalkResult(
            walked=task.walked,
            value_channels=task.value_map.shape[1],
            settings=settings,
            sub_map=task.size,
            sub_maps=task.sub_maps,
        )
        try:
            sample = measure_sample(task, self.device)
            estimate = sample.estimate(pixels) * task.sub_maps
            if estimate > self.limits.seconds:
                how = "" if sample.stays_sparse(pixels) else "streamed, since its graph is not sparse enough; "
                how = self._too_long(estimate, f"{how}by pairs, from {sample.pixels} pixels")
                return _Entry(task, replace(row, skipped=how))
            note(f"  {task.walked}, n = {settings.parts}")
            sample = measure(task, self.device, exact=sample.exact_estimate(pixels) <= self.limits.seconds)
            result = task()
            checked = check(task, result, sample)
            row = replace(row, path=sample.path, kept=sample.kept, **checked._asdict(), matched=checked.matched)
            return _Entry(task, row, result)
        except Exception as error:  # as above
            return _Entry(task, replace(row, failed=failure(error)))

    def _run_once(self, walk: _Entry) -> None:
        if walk.row.matched and walk.result is not None:
            seconds, again = self.device.timed(walk.task)
            # Two runs give the same bits, so these are checked too.
            walk.row = replace(walk.row, matched=torch.equal(again, walk.result))
            walk.times.append(seconds)

    def _too_long(self, seconds: float, how: str) -> str:
        return f"would take about {seconds:.3g} s ({how}), the limit is {self.limits.seconds:g} s"


def _timed(walk: _Entry, network_seconds: float) -> WalkResult:
    """A walk's row, with what follows from its times where it matched."""
    if not walk.row.matched:
        return replace(walk.row, runs=tuple(walk.times))
    seconds = median(walk.times)
    frame = network_seconds + seconds
    return replace(
        walk.row, runs=tuple(walk.times), seconds=seconds, share=seconds / frame, frames_per_second=1 / frame
    )


def settings_of(name: str) -> Preset:
    """The walk that a network's map gets: its method's on RoadAnomaly, or the same one uncut."""
    method = METHODS[name]
    return preset(method, "road_anomaly") if method else replace(preset("rba", "road_anomaly"), parts=1)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
