"""Frames of a network: its time and that of walks on its map, in turn, each walk checked first."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from rwpm_fast import Scorer, Walk
from rwpm_fast.benchmark import Limits, machine
from rwpm_fast.benchmark.stage import Host
from rwpm_fast.networks import Network
from rwpm_fast.presets import Preset, preset
from rwpm_fast.scoring.scorer import Analysis

from .walks import Task, check, look, sample, stand_in, values_of, what_walks

# Network: the published method whose settings of RoadAnomaly its map is walked with; without one uncut.
METHODS = {
    "compact": None,
    "dabnet": None,
    "deeplab_wrn38": "pebal",
    "rba_swin_b": "rba",
    "rba_swin_l": "rba",
    "mask2anomaly": "mask2anomaly",
}


class Frames:
    """Photos of growing sizes through a network: times of it and of walks on its map.

    Args:
        source: file of embeddings that stand for the network's own; None where its weights are real.
        tolerance: of the walks.
    """

    def __init__(self, network: Network, source: Path | None, tolerance: float, limits: Limits, stage: Host) -> None:
        self.scorer, self.source, self.tolerance = Scorer(network), source, tolerance
        self.limits, self.stage = limits, stage
        self.before: tuple[int, float] | None = None  # pixels and seconds of the network on a smaller photo

    def measure(self, photo: np.ndarray) -> dict[str, Any]:
        """One photo [H, W, 3]: the case of a record. It has ``skipped`` or ``failed`` with the reason, or the network's
        times and ``rows`` of walks, as those of :func:`rwpm_fast.benchmark.compare`."""
        network, (height, width) = self.scorer.network, photo.shape[:2]
        case = {"network": network.name, "photo": [width, height], "rows": []}
        note(f"{network.name}, {width}x{height}")
        pixels = int(np.prod(network.padded_size((height, width))))
        if self.before and (estimate := self.before[1] * pixels / self.before[0]) > self.limits.seconds:
            return case | self._too_long(estimate, "by pixels, from a smaller photo")
        try:
            return case | self._measured(photo, pixels)
        except Exception as error:  # whatever a library raises, the others still run
            return case | {"failed": _reason(error)}

    def _measured(self, photo: np.ndarray, pixels: int) -> dict[str, Any]:
        @torch.inference_mode()
        def frame() -> Analysis:
            analysis = self.scorer.analyze(photo)
            analysis.walked.score(self.scorer.score)
            return analysis

        seconds, analysis = self.stage.timed(frame)  # to warm up
        self.before = (pixels, seconds)
        if seconds > self.limits.seconds:
            return self._too_long(seconds, "it did")
        entrants = [self._admitted(task) for task in self._tasks(analysis)]
        loads, times = [], []
        for _ in range(self.limits.rounds):
            loads.append(machine.load())
            times.append(self.stage.timed(frame)[0])
            for task, row, result in entrants:
                if row.get("matched"):
                    seconds, again = self.stage.timed(task)
                    row["matched"] = torch.equal(again, result)  # two runs give the same bits, so these are checked too
                    row.setdefault("runs", []).append(seconds)
        network_seconds = median(times)
        self.before = (pixels, network_seconds)
        for _, row, _ in entrants:
            if row.get("matched"):
                row["seconds"] = median(row["runs"])
                row["share"] = row["seconds"] / (network_seconds + row["seconds"])
                row["frames_per_second"] = 1 / (network_seconds + row["seconds"])
        task = entrants[0][0]
        return {
            "map": list(task.embedding_map.shape),
            "embeddings": "the network's own" if self.source is None else self.source.name,
            "load": loads,
            "network_seconds": network_seconds,
            "network_runs": times,
            "rows": [row for _, row, _ in entrants],
        }

    def _tasks(self, analysis: Analysis) -> list[Task]:
        network = self.scorer.network
        published = settings_of(network.name)
        tasks = []
        for walked in what_walks(network):
            maps = analysis.embedded.embedding_map, values_of(analysis, walked)
            maps = maps if self.source is None else stand_in(self.source, *maps)
            for parts in dict.fromkeys((published.parts, 1)):
                settings = (published.alpha, published.steps, published.temperature)
                walk = Walk(*settings, parts=parts, tolerance=self.tolerance)
                tasks.append(Task(walked, *maps, walk))
        return tasks

    def _admitted(self, task: Task) -> tuple[Task, dict[str, Any], torch.Tensor | None]:
        """A walk, its row as far as its first run fills it, and the checked result; none where it was left out."""
        walk, (height, width) = task.walk, task.size
        row = {"walked": task.walked, "value_channels": task.value_map.shape[1], "parts": walk.settings.parts}
        row |= {
            **task.settings,
            "tolerance": walk.settings.tolerance,
            "sub_map": [height, width],
            "sub_maps": task.sub_maps,
        }
        pixels = height * width
        try:
            seen = sample(task, self.stage)
            estimate = seen.estimate(pixels) * task.sub_maps
            if estimate > self.limits.seconds:
                how = "" if seen.stays_sparse(pixels) else "streamed, since its graph is not sparse enough; "
                return task, row | self._too_long(estimate, f"{how}by pairs, from {seen.pixels} pixels"), None
            note(f"  {task.walked}, n = {walk.settings.parts}")
            seen = look(task, self.stage, exact=seen.exact_estimate(pixels) <= self.limits.seconds)
            result = task()
            return task, row | {"path": seen.path, "kept": seen.kept} | check(task, result, seen), result
        except Exception as error:  # as above
            return task, row | {"failed": _reason(error), "matched": False}, None

    def _too_long(self, seconds: float, how: str) -> dict[str, str]:
        return {"skipped": f"would take about {seconds:.3g} s ({how}), the limit is {self.limits.seconds:g} s"}


def settings_of(name: str) -> Preset:
    """The walk that a network's map gets: its method's on RoadAnomaly, or the same one uncut."""
    method = METHODS[name]
    return preset(method, "road_anomaly") if method else replace(preset("rba", "road_anomaly"), parts=1)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
