"""The time of a walk, launch by launch, and the times of other tiles, warps and stages."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.suites.cuda_step import CASES, time_case
from rwpm_fast.benchmark import Case, our_walk
from rwpm_fast.benchmark.contender import Run
from rwpm_fast.ops.gpu import cuda_step
from rwpm_fast.ops.gpu.launch import INTERPRETED, Launch, observe_launches

from .context import Context, Skipped, note

# Kernel -> options of a launch and their values, the likeliest first. BM and BN are rows and columns of a tile.
_TILES = {"BM": (128, 64), "BN": (64, 128, 32), "num_warps": (8, 4), "num_stages": (2, 3, 4)}
SPACES: dict[str, dict[str, tuple[int, ...]]] = {
    "exact.step": _TILES,
    "exact.row_sums": _TILES,
    "screen.screen": {"BM": (128, 64), "BN": (64, 128), "num_warps": (8, 4), "num_stages": (3, 2, 4, 1)},
    "sparse.step": {"num_warps": (4, 8, 2), "num_stages": (3, 2, 4, 1)},
    "sparse.weigh": {"num_warps": (4, 8), "num_stages": (2, 1, 3)},
}
COMPILERS = 12


def changed(launch: Launch, options: dict[str, int]) -> Launch:
    """A launch with other options; a grid of rows follows its tile."""
    grid = launch.grid
    if "BM" in options:
        grid = (launch.grid[0] * launch.options["BM"] // options["BM"], *launch.grid[1:])
    return launch._replace(grid=grid, options={**launch.options, **options})


class Clock:
    """Milliseconds of regions: on a GPU by events, which are read after all have run."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[tuple[Any, Any]] = []

    def _now(self):
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def time(self, run: Callable[[], object]) -> None:
        begin = self._now()
        run()
        self._marks.append((begin, self._now()))

    def read(self) -> list[float]:
        if self._cuda:
            torch.cuda.synchronize()
            return [begin.elapsed_time(end) for begin, end in self._marks]
        return [1000 * (end - begin) for begin, end in self._marks]


def frames(context: Context) -> list[tuple[Case, float]]:
    """The walks that are timed: frames and tolerances."""
    wide, logits = context.frame(184, 320, value_channels=256), context.frame(184, 320, value_channels=19)
    single = context.frame(184, 320, value_channels=256, dtype="float32")
    cut = context.frame(184, 320, value_channels=256, parts=2)
    return [(wide, 1e-3), (logits, 1e-3), (wide, 0.0), (cut, 1e-3), (single, 0.0), (single, 1e-3)]


def prepare_walk(frame: Case, tolerance: float) -> Run:
    return our_walk("triton", tolerance).prepare(frame.problem())


def profile(context: Context) -> dict[str, Any]:
    """Milliseconds of every kernel of a walk in its place, and of the whole."""
    titled = ((f"{frame.title()}, tolerance {tolerance:g}", frame, tolerance) for frame, tolerance in frames(context))
    return {"walks": [profile_run(title, prepare_walk(*walk), context) for title, *walk in titled]}


def profile_run(title: str, run: Run, context: Context) -> dict[str, Any]:
    """Milliseconds of every kernel of a run in its place, and of the whole."""
    run()
    rounds = [_time_launches(run, context) for _ in range(2 if context.dry else 5)]
    by_kernel: dict[str, list[float]] = defaultdict(list)
    for launches in zip(*(launches for launches, _ in rounds), strict=True):
        by_kernel[launches[0][0]].append(median(ms for _, ms in launches))
    kernels = {name: {"launches": len(ms), "ms": sum(ms), "each": ms} for name, ms in by_kernel.items()}
    total = median(whole for _, whole in rounds)
    rest = total - sum(k["ms"] for k in kernels.values())
    note(f"{title}: {total:.3f} ms, {rest:.3f} ms of it between our kernels")
    for name, kernel in sorted(kernels.items(), key=lambda item: -item[1]["ms"]):
        note(f"  {kernel['ms']:9.3f} ms in {kernel['launches']:3d} launches of {name}")
    return {"title": title, "ms": total, "between_ms": rest, "kernels": kernels, "device": profiled(run, context)}


def _time_launches(run: Run, context: Context) -> tuple[list[tuple[str, float]], float]:
    """Kernel and milliseconds of every launch of a walk, and milliseconds of the whole walk."""
    names: list[str] = []
    clock, whole = Clock(context.device), Clock(context.device)

    def observer(launch: Launch) -> None:
        names.append(launch.name)
        clock.time(launch.run)

    if context.device == "cuda":
        torch.cuda._sleep(60_000_000)  # some 30 ms: all is launched by then, and nothing waits for a launch
    with observe_launches(observer):
        whole.time(run)
    return list(zip(names, clock.read(), strict=True)), whole.read()[0]


def profiled(run: Run, context: Context) -> list[dict[str, Any]]:
    """The ten longest kernels on the device in one walk as torch's profiler sees them, torch's own among them."""
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
    except Exception as error:  # not every machine lets users profile; events always work
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
    """Time each kernel's longest launch separately with the options of its list: the fastest first, failures last."""
    end = context.deadline - 10
    tuned, seen = [], set()
    for frame, tolerance in frames(context):
        for name, launch in _first_launches(prepare_walk(frame, tolerance)).items():
            if tolerance and name.startswith("exact."):
                continue  # with a tolerance it has next to nothing to do
            # The same kernel with the same constants, of another map.
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


def _first_launches(run: Run) -> dict[str, Launch]:
    """The first launch of each kernel of SPACES in a walk: none of its later ones is longer."""
    first: dict[str, Launch] = {}

    def observer(launch: Launch) -> None:
        launch.run()
        if launch.name in SPACES:
            first.setdefault(launch.name, launch)

    with observe_launches(observer):
        run()
    return first


def _variants(launch: Launch, context: Context, end: float) -> list[dict[str, Any]]:
    space = {option: sizes for option, sizes in SPACES[launch.name].items() if option in launch.options}
    every = [dict(zip(space, sizes, strict=True)) for sizes in product(*space.values())]
    present = {option: launch.options[option] for option in space}
    tried = [present, *(options for options in every if options != present)]
    tried = [o for o in tried if (launch.grid[0] * launch.options.get("BM", 1)) % o.get("BM", 1) == 0]
    tried = tried[:3] if context.dry else tried
    _compile_ahead([changed(launch, options) for options in tried])
    found, failed, before = [], [], None
    for options in tried:
        if time.time() > end:
            break
        try:
            ms, after = _time_alone(changed(launch, options), context)
        except Exception as error:  # most often more shared memory or registers than there are
            failed.append({"options": options, "failed": f"{type(error).__name__}: {str(error)[:100]}"})
            continue
        before = after if before is None else before
        found.append(
            {"ms": ms, "options": options, "present": options == present, "differs": _difference(before, after)}
        )
    return sorted(found, key=lambda variant: variant["ms"]) + failed


def _compile_ahead(launches: list[Launch]) -> None:
    """Compile launches in parallel; where Triton cannot, each is compiled when it runs."""
    try:
        import triton

        if INTERPRETED:
            return
        with ThreadPoolExecutor(COMPILERS) as pool, triton.AsyncCompileMode(pool, ignore_errors=True):
            for launch in launches:
                launch.kernel.warmup(*launch.arguments, grid=launch.grid, **launch.options)
    except Exception as error:
        note(f"compiling one after the other: {type(error).__name__}: {str(error)[:100]}")


def _time_alone(launch: Launch, context: Context) -> tuple[float, list[Tensor]]:
    """Median milliseconds of a launch, and the norms of its tensors then."""
    launch.run()
    clock = Clock(context.device)
    for _ in range(2 if context.dry else 10):
        clock.time(launch.run)
    # Of integers only the bits: every run adds to the others.
    named = zip(launch.kernel.arg_names, launch.arguments, strict=False)
    tensors = [a for name, a in named if isinstance(a, Tensor) and (a.is_floating_point() or name == "p_bits")]
    sums = [t.double().nan_to_num(0, 0, 0).square().sum().sqrt() for t in tensors]
    return median(clock.read()), sums


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    """The largest relative difference of norms: a variant that computes something else shows."""
    return max(((a - b).abs() / b.clamp_min(1e-30)).item() for a, b in zip(after, before, strict=True))
