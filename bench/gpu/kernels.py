"""Where a walk's time goes, launch by launch, and what other tiles, warps and stages would take."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.suites.cuda_step import CASES, time_case
from rwpm_fast.benchmark.contender import Run
from rwpm_fast.benchmark.fps import Frame, ours
from rwpm_fast.ops.gpu import cuda_step

from .context import Context, Skipped, note

# Kernel -> lists of what a launch may be given, the likeliest first. BM and BN are rows and columns of a tile.
_TILES = {"BM": (128, 64), "BN": (64, 128, 32), "num_warps": (8, 4), "num_stages": (2, 3, 4)}
SPACES: dict[str, dict[str, tuple[int, ...]]] = {
    "exact.step": _TILES,
    "exact.row_sums": _TILES,
    "screen.screen": {"BM": (128, 64), "BN": (64, 128), "num_warps": (8, 4), "num_stages": (3, 2, 4, 1)},
    "sparse.step": {"num_warps": (4, 8, 2), "num_stages": (3, 2, 4, 1)},
    "sparse.weigh": {"num_warps": (4, 8), "num_stages": (2, 1, 3)},
}
COMPILERS = 12


class Launch(NamedTuple):
    """A kernel as it was launched."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple
    options: dict[str, Any]

    @property
    def name(self) -> str:
        function = getattr(self.kernel, "fn", self.kernel)
        return f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"

    def changed(self, options: dict[str, int]) -> Launch:
        """With other options; a grid of rows follows its tile."""
        grid = self.grid
        if "BM" in options:
            grid = (self.grid[0] * self.options["BM"] // options["BM"], *grid[1:])
        return self._replace(grid=grid, options={**self.options, **options})


@contextmanager
def launches(around) -> Iterator[None]:
    """Have ``around(launch, run)`` do the launches of rwpm_fast.ops.gpu, ``run()`` being the launch itself."""
    from rwpm_fast.ops.gpu import launch as module

    original = module.launch

    def launch(kernel, grid, *arguments, **options):
        made = Launch(kernel, tuple(grid), arguments, options)
        around(made, lambda: original(kernel, grid, *arguments, **options))

    users = [
        m
        for name, m in sys.modules.items()
        if name.startswith("rwpm_fast.ops.gpu.") and m.__dict__.get("launch") is original
    ]
    for user in users:
        user.launch = launch
    try:
        yield
    finally:
        for user in users:
            user.launch = original


class Clock:
    """Milliseconds of regions: by events on a GPU, which are read after all have run."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[tuple[Any, Any]] = []

    def _now(self):
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def around(self, run) -> None:
        begin = self._now()
        run()
        self._marks.append((begin, self._now()))

    def read(self) -> list[float]:
        if self._cuda:
            torch.cuda.synchronize()
            return [begin.elapsed_time(end) for begin, end in self._marks]
        return [1000 * (end - begin) for begin, end in self._marks]


def frames(context: Context) -> list[tuple[Frame, float]]:
    """What is looked at: frames and tolerances."""
    wide, logits = context.frame(184, 320, value_channels=256), context.frame(184, 320, value_channels=19)
    single = context.frame(184, 320, value_channels=256, dtype="float32")
    cut = context.frame(184, 320, value_channels=256, parts=2)
    return [(wide, 1e-3), (logits, 1e-3), (wide, 0.0), (cut, 1e-3), (single, 0.0), (single, 1e-3)]


def walk_of(frame: Frame, tolerance: float) -> Run:
    return ours("triton", tolerance).prepare(frame.problem())


def profile(context: Context) -> dict[str, Any]:
    """Milliseconds of every kernel of a walk in its place, and of the whole."""
    walks = []
    for frame, tolerance in frames(context):
        run = walk_of(frame, tolerance)
        run()
        turns, totals, names = [], [], []
        for _ in range(2 if context.dry else 5):
            clock, whole = Clock(context.device), Clock(context.device)
            names = []

            def around(launch: Launch, launched, clock=clock, names=names) -> None:
                names.append(launch.name)
                clock.around(launched)

            if context.device == "cuda":
                torch.cuda._sleep(60_000_000)  # some 30 ms: all is launched by then, and nothing waits for a launch
            with launches(around):
                whole.around(run)
            turns.append(clock.read())
            totals += whole.read()
        by_kernel: dict[str, list[float]] = defaultdict(list)
        for name, times in zip(names, zip(*turns, strict=True), strict=True):
            by_kernel[name].append(median(times))
        kernels = {name: {"launches": len(ms), "ms": sum(ms), "each": ms} for name, ms in by_kernel.items()}
        total = median(totals)
        rest = total - sum(k["ms"] for k in kernels.values())
        title = f"{frame.title()}, tolerance {tolerance:g}"
        note(f"{title}: {total:.3f} ms, {rest:.3f} ms of it between our kernels")
        for name, kernel in sorted(kernels.items(), key=lambda item: -item[1]["ms"]):
            note(f"  {kernel['ms']:9.3f} ms in {kernel['launches']:3d} launches of {name}")
        walks.append(
            {"title": title, "ms": total, "between_ms": rest, "kernels": kernels, "device": profiled(run, context)}
        )
    return {"walks": walks}


def profiled(run, context: Context) -> list[dict[str, Any]]:
    """What torch's profiler sees on the device in one walk, torch's own kernels among it; the ten longest."""
    if context.device != "cuda":
        return []
    try:
        from torch.profiler import ProfilerActivity
        from torch.profiler import profile as profiler

        with profiler(activities=[ProfilerActivity.CUDA]) as seen:
            run()
            torch.cuda.synchronize()
        rows = sorted(seen.key_averages(), key=lambda row: -row.device_time_total)[:10]
        return [{"name": r.key[:80], "count": r.count, "us": r.device_time_total} for r in rows]
    except Exception as error:  # the profiler may be closed to us; the events above are not
        return [{"name": f"no profile: {type(error).__name__}: {error}", "count": 0, "us": 0}]


def steps(context: Context) -> dict[str, Any]:
    """One exact transition by Triton and by each kernel in CUDA C++: :mod:`bench.suites.cuda_step`."""
    if (
        reason := cuda_step.unsupported_dtype(torch.empty(0, dtype=torch.float16, device=context.device), None)
    ) is not None:
        raise Skipped(reason)
    rows = []
    for case in CASES[:1] if context.dry else CASES:
        rows += time_case(*case, rounds=1 if context.dry else 5)
        for row in rows[-len(cuda_step.KERNELS) :]:
            note("  ".join(f"{name} {x:.4g}" if isinstance(x, float) else f"{name} {x}" for name, x in row.items()))
    return {"rows": rows}


def tune(context: Context) -> dict[str, Any]:
    """Each kernel's longest launch by itself with the options of its list; those that run, the fastest first."""
    end = context.deadline - 10
    tuned, seen = [], set()
    for frame, tolerance in frames(context):
        longest: dict[str, Launch] = {}

        def around(launch: Launch, launched, longest=longest) -> None:
            launched()
            if launch.name in SPACES:
                longest.setdefault(launch.name, launch)  # the first looks at all blocks; the others look alike

        with launches(around):
            walk_of(frame, tolerance)()
        for name, launch in longest.items():
            if tolerance and name.startswith("exact."):
                continue  # there it does next to nothing
            # The same kernel on another map, but for what is tried.
            alike = name, str({option: value for option, value in launch.options.items() if option not in SPACES[name]})
            if alike in seen:
                continue
            seen.add(alike)
            if time.time() > end:
                note("out of time for other variants")
                return {"tuned": tuned}
            title = f"{name}: {frame.title()}, tolerance {tolerance:g}"
            tuned.append({"title": title, "kernel": name, "variants": _variants(launch, context, end)})
            note(title)
            for variant in tuned[-1]["variants"][:5]:
                note("  " + str(variant))
    return {"tuned": tuned}


def _variants(launch: Launch, context: Context, end: float) -> list[dict[str, Any]]:
    space = {option: sizes for option, sizes in SPACES[launch.name].items() if option in launch.options}
    every = [dict(zip(space, sizes, strict=True)) for sizes in product(*space.values())]
    present = {option: launch.options[option] for option in space}
    wanted = [present, *(options for options in every if options != present)]
    wanted = [o for o in wanted if (launch.grid[0] * launch.options.get("BM", 1)) % o.get("BM", 1) == 0]
    wanted = wanted[:3] if context.dry else wanted
    _compile_ahead([launch.changed(options) for options in wanted])
    found, failed, before = [], [], None
    for options in wanted:
        if time.time() > end:
            break
        try:
            ms, after = _alone(launch.changed(options), context)
        except Exception as error:  # most often more shared memory or registers than there are
            failed.append({"options": options, "failed": f"{type(error).__name__}: {str(error)[:100]}"})
            continue
        before = after if before is None else before
        found.append({"ms": ms, "options": options, "present": options == present, "differs": _apart(before, after)})
    return sorted(found, key=lambda variant: variant["ms"]) + failed


def _compile_ahead(launched: list[Launch]) -> None:
    """Compile at once what would be compiled one after the other; without Triton's help it is done later."""
    try:
        import triton

        from rwpm_fast.ops.gpu.launch import INTERPRETED

        if INTERPRETED:
            return
        with ThreadPoolExecutor(COMPILERS) as pool, triton.AsyncCompileMode(pool, ignore_errors=True):
            for launch in launched:
                launch.kernel.warmup(*launch.arguments, grid=launch.grid, **launch.options)
    except Exception as error:
        note(f"compiling one after the other: {type(error).__name__}: {str(error)[:100]}")


def _alone(launch: Launch, context: Context) -> tuple[float, list[Tensor]]:
    """Median milliseconds of a launch, and what its tensors hold then."""
    run = launch.kernel[launch.grid]
    run(*launch.arguments, **launch.options)
    clock = Clock(context.device)
    for _ in range(2 if context.dry else 10):
        clock.around(lambda: run(*launch.arguments, **launch.options))
    # Of integers only the bits: others are added up by every run.
    named = zip(launch.kernel.arg_names, launch.arguments, strict=False)
    tensors = [a for name, a in named if isinstance(a, Tensor) and (a.is_floating_point() or name == "p_bits")]
    sums = [t.double().nan_to_num(0, 0, 0).square().sum().sqrt() for t in tensors]
    return median(clock.read()), sums


def _apart(before: list[Tensor], after: list[Tensor]) -> float:
    """How far the norms of what a launch wrote are from each other: a variant that computes something else shows."""
    return max(((a - b).abs() / b.clamp_min(1e-30)).item() for a, b in zip(after, before, strict=True))
