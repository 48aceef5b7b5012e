"""The command ``python -m bench.suites.cuda_step``.

A kernel gets a time only after it matched Triton's result. Kernels take turns, and the median of their rounds counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rwpm_fast.benchmark import machine
from rwpm_fast.benchmark.cases import manifolds
from rwpm_fast.io.files import write_json
from rwpm_fast.ops.gpu import cuda_step
from rwpm_fast.ops.gpu import exact as by_triton
from rwpm_fast.ops.gpu.pack import HalfPair, pack_graph, pack_state

# Pixels, channels of embeddings and of values: DABNet's maps, Mask2Former's at 720p, DeepLab's part of a photo.
CASES = ((14400, 259, 19), (14400, 259, 259), (58880, 256, 19), (58880, 256, 100), (58880, 256, 256), (131072, 256, 19))
MAX_ERROR = 1e-3  # norm-wise, relative to Triton's result


def seconds_of(run: Callable[[], None], repeats: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeats


def time_case(pixels: int, channels: int, values: int, rounds: int) -> list[dict[str, Any]]:
    e = manifolds(pixels, channels).half().cuda()[None]
    v = manifolds(pixels, values, seed=1).half().cuda()[None]
    graph = pack_graph(e, None, 0.01)
    start, _ = pack_state(v, graph, check=True)
    sums = by_triton.row_sums(graph, None)
    expected, target = (HalfPair.empty(*start.high.shape, has_low=False, device=e.device) for _ in range(2))
    inputs, alpha = (graph, sums, None, start, start), graph.per_row(0.9)
    by_triton.exact_step(*inputs, expected, alpha, False)

    runs: dict[str, Callable[[], None]] = {"triton": lambda: by_triton.exact_step(*inputs, target, alpha, False)}
    rows: list[dict[str, Any]] = []
    for kernel in cuda_step.KERNELS[1:]:
        row = {"pixels": pixels, "channels": channels, "value_channels": values, "kernel": kernel}
        if (reason := cuda_step.unsupported_reason(graph, start, kernel)) is not None:
            rows.append(row | {"reason": reason})
            continue
        target.high.fill_(torch.nan)
        cuda_step.exact_step(*inputs, target, alpha, False, kernel=kernel)
        error = ((target.high.float() - expected.high.float()).norm() / expected.high.float().norm()).item()
        if not error <= MAX_ERROR:
            rows.append(row | {"reason": f"wrong: error {error:.1e} relative to Triton's result"})
            continue
        runs[kernel] = lambda kernel=kernel: cuda_step.exact_step(*inputs, target, alpha, False, kernel=kernel)

    repeats = max(1, round(0.05 / seconds_of(runs["triton"], 2)))
    times: dict[str, list[float]] = {kernel: [] for kernel in runs}
    for _ in range(rounds):
        for kernel, run in runs.items():
            times[kernel].append(seconds_of(run, repeats))
    for kernel, all_times in times.items():
        seconds = statistics.median(all_times)
        rows.append(
            {
                "pixels": pixels,
                "channels": channels,
                "value_channels": values,
                "kernel": kernel,
                "seconds": seconds,
                "fastest": min(all_times),
                "operations_per_second": 2 * pixels**2 * (channels + values) / seconds,
                "times_triton": statistics.median(times["triton"]) / seconds,
            }
        )
    return rows


SUMMARY = "Time one exact step on the GPU: Triton's kernel and those in CUDA C++, on the same packed numbers."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.suites.cuda_step", description=SUMMARY)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the times and the machine there")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"{parser.prog}: no CUDA device", file=sys.stderr)
        return 2
    rows = []
    for case in CASES:
        for row in time_case(*case, options.rounds):
            rows.append(row)
            size = "N {pixels} D {channels} C {value_channels} {kernel:11s} ".format(**row)
            if "reason" in row:
                print(size, row["reason"], flush=True)
                continue
            rate = f"{row['seconds'] * 1e3:8.3f} ms {row['operations_per_second'] / 1e12:6.0f} TFLOP/s"
            print(f"{size} {rate}, {row['times_triton']:.2f} times Triton's speed", flush=True)
    if options.json:
        facts = machine.facts() | {"gpu": torch.cuda.get_device_name()}
        command = ["python", "-m", "bench.suites.cuda_step", *(arguments if arguments is not None else sys.argv[1:])]
        write_json(options.json, {"command": command, "commit": machine.commit(), "machine": facts, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
