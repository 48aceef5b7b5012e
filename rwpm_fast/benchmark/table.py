"""A record as Markdown."""

from __future__ import annotations

from typing import Any

COLUMNS = (
    "walk",
    "seconds, median",
    "max / min",
    "frames/s",
    "times dense's speed",
    "peak memory, MiB",
    "of the FMA peak",
    "step's gathers, of the copy rate",
    "error, against",
)
FILTER_COLUMNS = (
    "map",
    "N",
    "D",
    "instruction set",
    "numbers",
    "seconds, median",
    "max / min",
    "Gop/s",
    "peak, Gop/s",
    "of the peak",
)


def markdown(record: dict[str, Any]) -> str:
    """Heading, machine, one table for each case and one for all filters of a record that
    :func:`rwpm_fast.benchmark.record` made."""
    machine = record["machine"]
    lines = [
        f"{machine['processor']}, {machine['torch_threads']} threads, kernels for {machine['isa_chosen']}, "
        f"torch {machine['torch']}, rwpm_fast {machine['rwpm_fast']} at {record['commit'] or 'no commit'}",
        "",
        f"    {record['command']}",
    ]
    for compared in record["cases"]:
        load = compared["load"]
        lines += [
            "",
            f"**{compared['case']['title']}**",
            "",
            f"Load {min(load):.1f} to {max(load):.1f}, float32 peak {compared['peak_flops'] / 1e9:.0f} GFLOP/s, "
            f"copy {compared['copy_bytes'] / 1e9:.1f} GB/s, rounds: {record['rounds']}.",
            "",
            *_head(COLUMNS),
            *(_line(row) for row in compared["rows"]),
        ]
    if rows := record.get("filter"):
        loads = [load for row in rows for load in row["load"]]
        lines += [
            "",
            "**The filter of a walk with a tolerance, alone: half of all pairs, nothing found**",
            "",
            f"Load {min(loads, default=0):.1f} to {max(loads, default=0):.1f}, rounds: {record['rounds']}; a "
            "multiply-add is two operations.",
            "",
            *_head(FILTER_COLUMNS),
            *(_filter_line(row) for row in rows),
        ]
    return "\n".join(lines) + "\n"


def _head(columns: tuple[str, ...]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def _filter_line(row: dict[str, Any]) -> str:
    cells = [f"{row['name']}, {row['height']}x{row['width']}", row["pixels"], row["channels"], row["isa"]]
    cells.append(row["format"])
    if row["matched"]:
        cells += [f"{row['seconds']:.3g}", f"{row['spread']:.2f}", f"{row['operations_per_second'] / 1e9:.0f}"]
        cells += [f"{row['peak_operations_per_second'] / 1e9:.0f}", f"{row['share_of_peak']:.0%}"]
    else:
        cells.append("refused: it does not find the pairs that float64 finds")
    cells += [""] * (len(FILTER_COLUMNS) - len(cells))
    return f"| {' | '.join(map(str, cells))} |"


def _line(row: dict[str, Any]) -> str:
    if "skipped" in row:
        cells = [f"not run: {row['skipped']}"]
    elif "failed" in row:
        cells = [f"failed: {row['failed']}"]
    elif not row["matched"]:
        cells = [f"refused: its error is above the {row['bound']:.0e} of its contract"]
    else:
        peak = row.get("peak_bytes")
        cells = [
            f"{row['seconds']:.3g}",
            f"{row['spread']:.2f}",
            f"{row['frames_per_second']:.3g}",
            f"{row['speedup']:.2f}" if "speedup" in row else "",
            "" if peak is None else f"{peak / 2**20:.0f}",
            f"{row['share_of_peak']:.0%}" if "share_of_peak" in row else "",
            f"{row['share_of_copy']:.0%}" if "share_of_copy" in row else "",
        ]
    cells += [""] * (len(COLUMNS) - 2 - len(cells))
    cells.append(f"{row['error']:.1e} {row['against']}" if "error" in row else "")
    return f"| {row['label']} | {' | '.join(cells)} |"
