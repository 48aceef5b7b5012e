"""Time the gradient of the walk beside the walk itself, and beside automatic differentiation through dense products.

python -m bench.gradient --embeddings FILE.npz --json OUT.json

Of each size of the map and each tolerance: gradients are checked first, where the dense ones fit against those in
float64, of the exact walk or of the pairs that the walk keeps; then walk, gradient and dense gradient take turns.
Memory is the most that a process of its own holds above its inputs in one walk and its gradient.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import rwpm_fast
from rwpm_fast import reference
from rwpm_fast.benchmark.machine import commit, facts, load
from rwpm_fast.benchmark.memory import resident
from rwpm_fast.io.console import run_command
from rwpm_fast.io.files import write_json
from rwpm_fast.io.markdown import markdown_table

SUMMARY = "Time the gradient of the walk beside the walk, and beside automatic differentiation of dense products."
TOLERANCES = (0.0, 1e-4)
SCALES = (0.5, 1.0, 2.0)  # of the map's sides
DENSE_PIXELS = 4000  # up to which the dense gradient is made: a map of 3 600 takes a gibibyte in float64
MAX_ERROR = 1e-4  # norm-wise, of the gradients of embeddings and values
STREAMED_PIXELS = 20_000  # up to which the exact walk is timed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gradient", description=SUMMARY)
    parser.add_argument(
        "--embeddings", type=Path, required=True, metavar="FILE", help="npz file with embedding [D, h, w] and logits"
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a record")
    return run_command(parser, run, arguments)


def run(options: argparse.Namespace) -> int:
    """Measure, print a table, and write the record."""
    torch.set_num_threads(options.threads)
    rows = []
    for scale in SCALES:
        embeddings, values = read(options.embeddings, scale)
        for tolerance in TOLERANCES:
            if tolerance == 0 and len(embeddings) > STREAMED_PIXELS:
                continue
            row = measure(embeddings, values, tolerance, options.rounds)
            row["memory"] = peak_memory(options.embeddings, scale, tolerance, options.threads)
            rows.append(row)
            print(f"{row['pixels']} pixels, tolerance {tolerance:g}", file=sys.stderr, flush=True)
    print(table(rows))
    if options.json:
        command = f"python -m bench.gradient --embeddings {options.embeddings.name} --rounds {options.rounds}"
        record = {"kind": "gradient", "command": f"{command} --threads {options.threads}", "commit": commit()}
        write_json(options.json, {**record, "machine": facts(), "rows": rows})
    return 0


def read(path: Path, scale: float) -> tuple[Tensor, Tensor]:
    """Read embeddings [N, D] and logits [N, C] of a map whose sides are scaled bilinearly."""
    with np.load(path) as file:
        maps = (torch.from_numpy(file[name]).float()[None] for name in ("embedding", "logits"))
        scaled = (F.interpolate(m, scale_factor=scale, mode="bilinear", antialias=True)[0] for m in maps)
        embeddings, values = (m.flatten(1).T.contiguous() for m in scaled)
    return embeddings, values


def measure(embeddings: Tensor, values: Tensor, tolerance: float, rounds: int) -> dict[str, Any]:
    """Check the gradients where dense ones fit, and time walk and gradients in turn.

    Returns:
        Sizes, the tolerance, ``errors`` of the gradients of embeddings and values, and ``seconds`` of "forward",
        "backward", "both" and "dense", each the runs of wall clock and those of the process.

    Raises:
        ValueError: a gradient that is off by more than ``MAX_ERROR``.
    """
    upstream = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    dense = len(embeddings) <= DENSE_PIXELS
    errors = None
    if dense:
        errors = gradient_errors(embeddings, values, upstream, tolerance)
        if max(errors) > MAX_ERROR:
            raise ValueError(f"gradients: expected errors of at most {MAX_ERROR}, got {errors}")
    settings = {"tolerance": tolerance}
    contenders: dict[str, Callable[[], object]] = {
        "forward": lambda: torch.ops.rwpm.walk(embeddings, values, **settings),
        "backward": lambda: torch.ops.rwpm.walk_backward(upstream, embeddings, values, **settings),
        "both": lambda: gradients(rwpm_fast.walk, embeddings, values, upstream, **settings),
    }
    if dense:
        contenders["dense"] = lambda: gradients(reference.walk, embeddings, values, upstream)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    loads = []
    for _ in range(rounds):
        loads.append(load())
        for name, contender in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            contender()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    sizes = {"pixels": len(embeddings), "channels": embeddings.shape[1], "value_channels": values.shape[1]}
    return {**sizes, "tolerance": tolerance, "errors": errors, "seconds": seconds, "load": loads}


def gradients(walk: Callable[..., Tensor], *tensors: Tensor, **settings: Any) -> tuple[Tensor, ...]:
    """Differentiate a walk by embeddings and values."""
    *inputs, upstream = tensors
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    return torch.autograd.grad(walk(*leaves, **settings), leaves, upstream)


def gradient_errors(embeddings: Tensor, values: Tensor, upstream: Tensor, tolerance: float) -> list[float]:
    """Norm-wise errors of our gradients against dense ones in float64, of the pairs that the walk keeps."""
    walk: Callable[..., Tensor] = reference.walk
    graph = rwpm_fast.transition(embeddings, tolerance=tolerance)
    if graph.path == "sparse":
        dropped = graph.to_csr().to_dense() == 0

        def walk(e: Tensor, v: Tensor) -> Tensor:
            q = F.normalize(e, dim=-1)
            S = (q @ q.T / 0.01).masked_fill(dropped, -torch.inf).softmax(-1)
            m = v
            for _ in range(20):
                m = 0.99 * (S @ m) + (1 - 0.99) * v
            return m

    wanted = gradients(walk, embeddings.double(), values.double(), upstream.double())
    got = gradients(rwpm_fast.walk, embeddings, values, upstream, tolerance=tolerance)
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True)]


def peak_memory(path: Path, scale: float, tolerance: float, threads: int) -> int:
    """Bytes above the inputs that a walk and its gradient hold at most, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_memory, (path, scale, tolerance, threads))


def _measure_memory(path: Path, scale: float, tolerance: float, threads: int) -> int:
    torch.set_num_threads(threads)
    embeddings, values = (t.requires_grad_() for t in read(path, scale))
    rwpm_fast.walk(embeddings[:600], values[:600], tolerance=tolerance).sum().backward()  # loads what is loaded once
    Path("/proc/self/clear_refs").write_text("5")  # resets the most that was held
    before = resident("VmRSS")
    rwpm_fast.walk(embeddings, values, tolerance=tolerance).square().mean().backward()
    return resident("VmHWM") - before


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of medians: seconds of wall clock, those of the process in brackets, MiB."""

    def seconds(row: dict[str, Any], name: str) -> str:
        runs = row["seconds"].get(name)
        return "" if runs is None else "{:.3f} ({:.3f})".format(*(median(times) for times in zip(*runs, strict=True)))

    def ratio(row: dict[str, Any], over: str, under: str) -> str:
        runs = row["seconds"]
        if over not in runs or under not in runs:
            return ""
        return f"{median(a[1] / b[1] for a, b in zip(runs[over], runs[under], strict=True)):.2f}"

    header = ("pixels", "tolerance", "forward, s", "backward, s", "ratio", "both, s", "dense, both, s", "dense / ours")
    lines = [
        (
            f"{row['pixels']}",
            f"{row['tolerance']:g}",
            seconds(row, "forward"),
            seconds(row, "backward"),
            ratio(row, "backward", "forward"),
            seconds(row, "both"),
            seconds(row, "dense"),
            ratio(row, "dense", "both"),
            "" if row["memory"] is None else f"{row['memory'] / 2**20:.0f}",
            "" if row["errors"] is None else ", ".join(f"{error:.1e}" for error in row["errors"]),
        )
        for row in rows
    ]
    return markdown_table((*header, "memory, MiB", "errors: embeddings, values"), lines)


if __name__ == "__main__":
    sys.exit(main())
