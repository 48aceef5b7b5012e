"""Times the walk against dense torch, in turn within one run, and states every row's error.

    python bench/walk.py [--embeddings MAP.npz] [--tolerance 0 1e-4] [--json bench/results/DEVICE/NAME.json]


A row gets a time only if its result is as near the float64 reference as its contract says. Shares are of what this
machine reached in this run: multiply-adds of the kernels' own instruction set on all cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

import rwpm_fast
from rwpm_fast import baselines, info, native, reference
from rwpm_fast.cli.options import write_json

BOUND = 1e-5  # norm-wise relative error that an exact float32 walk may have; a tolerance adds 2 * T * tolerance


def manifolds(pixels: int, channels: int, seed: int = 0) -> torch.Tensor:
    """Synthetic embeddings [N, D]: 40 directions, each pixel between two of them, with noise."""
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(40, channels, generator=random)
    kind = torch.randint(40, (2, pixels), generator=random)
    along = torch.rand(pixels, 1, generator=random) * 0.4
    clean = (1 - along) * directions[kind[0]] + along * directions[kind[1]]
    return clean + 0.5 * torch.randn(pixels, channels, generator=random)


def contenders(
    embeddings: torch.Tensor,
    values: torch.Tensor,
    settings: dict,
    *,
    isas: list[str],
    tolerances: list[float],
    unflushed: bool,
) -> dict:
    """Name -> (a walk to time, its tolerance): dense torch, and ours by instruction set and tolerance."""
    runs = {}
    for flush in [False, True] if unflushed else [True]:
        name = "dense torch, subnormal numbers flushed" if flush else "dense torch"
        runs[name] = lambda flush=flush: baselines.dense_walk(embeddings, values, **settings, flush=flush), 0.0

    def ours(isa: str, tolerance: float):
        os.environ["RWPM_ISA"] = isa
        try:
            return rwpm_fast.walk(embeddings, values, **settings, tolerance=tolerance, backend="cpu")
        finally:
            del os.environ["RWPM_ISA"]

    for isa in isas:
        for tolerance in tolerances:
            name = f"rwpm_fast, {isa}, {f'tolerance {tolerance:g}' if tolerance else 'exact'}"
            runs[name] = lambda isa=isa, tolerance=tolerance: ours(isa, tolerance), tolerance
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=14400)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--value-channels", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=0.01)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--embeddings", type=Path, help=".npz with `embedding` [D, H, W], in place of synthetic ones")
    parser.add_argument("--tolerance", type=float, nargs="+", default=[0.0, 1e-4])
    parser.add_argument("--isa", nargs="+", default=native.native().build()["isa_available"])
    parser.add_argument("--unflushed", action="store_true", help="time dense torch as it comes too: minutes a walk")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    threads = torch.get_num_threads()
    settings = {"steps": options.steps, "temperature": options.temperature}
    if options.embeddings:
        with np.load(options.embeddings) as arrays:
            embeddings = torch.from_numpy(arrays["embedding"]).float().flatten(1).T.contiguous()
        options.pixels, options.channels = embeddings.shape
    else:
        embeddings = manifolds(options.pixels, options.channels)
    # As a head would: any linear map of the embeddings is as good for timing.
    mix = torch.randn(options.channels, options.value_channels, generator=torch.Generator().manual_seed(1))
    values = embeddings @ mix / options.channels**0.5
    chosen = {"isas": options.isa, "tolerances": options.tolerance, "unflushed": options.unflushed}
    runs = contenders(embeddings, values, settings, **chosen)
    expected = reference.walk(embeddings.double(), values.double(), **settings)

    errors = {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    peaks, loads = [], []
    for _ in range(options.repeats):
        peaks.append(native.native().peak_float32(threads, 0.5))
        loads.append(os.getloadavg()[0])
        for name, (run, _) in runs.items():
            start = time.perf_counter()
            result = run()
            seconds[name].append(time.perf_counter() - start)
            errors[name] = ((result - expected).norm() / expected.norm()).item()
            del result

    pairs = options.pixels**2
    # As the streaming walk counts: every step makes its weights anew. The first pass over the pairs is not counted.
    streamed = 2 * pairs * (options.channels + options.value_channels) * options.steps
    dense = min(median(times) for name, times in seconds.items() if name.startswith("dense"))
    rows = []
    for name, times in seconds.items():
        matched = errors[name] <= BOUND + 2 * options.steps * runs[name][1]
        row = {"contender": name, "error": errors[name], "matched": matched}
        if matched:
            spread = max(times) / min(times)
            row |= {"seconds": median(times), "spread": spread, "speedup": dense / median(times)}
            if name.endswith("exact"):
                row["share_of_peak"] = streamed / median(times) / median(peaks)
        rows.append(row)

    print(
        f"N = {options.pixels}, D = {options.channels}, C = {options.value_channels}, T = {options.steps}, "
        f"tau = {options.temperature}, {threads} threads, load {min(loads):.1f} to {max(loads):.1f}, "
        f"float32 peak {median(peaks) / 1e9:.0f} GFLOP/s\n"
    )
    print("| walk | seconds (median) | max / min | times dense's speed | share of peak | error |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        if not row["matched"]:
            print(f"| {row['contender']} | refused: error {row['error']:.1e} is above its contract | | | | |")
            continue
        share = f"{row['share_of_peak']:.0%}" if "share_of_peak" in row else ""
        print(
            f"| {row['contender']} | {row['seconds']:.3f} | {row['spread']:.2f} | {row['speedup']:.2f} | "
            f"{share} | {row['error']:.1e} |"
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        environment = {name: value for name, value in info.info().items() if name != "system"}
        record = {
            "command": shlex.join(["python", *(a for a in sys.argv if a not in ("--json", str(options.json)))]),
            "commit": commit,
            "machine": {"kernel": platform.release().split("-")[0], "load": loads, **environment},
            "peak_flops": median(peaks),
            "case": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "json"},
            "rows": rows,
        }
        write_json(options.json, record)
    return 0 if all(row["matched"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
