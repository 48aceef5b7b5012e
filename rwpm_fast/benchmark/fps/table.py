"""An FPS record as Markdown."""

from __future__ import annotations

from typing import Any

from .published import SOURCE, WITHOUT_WALK, published

COLUMNS = (
    "walk",
    "ms, median",
    "max / min",
    "FPS, walk alone",
    "FPS with network",
    "times released's speed",
    "peak memory, MiB",
    "TFLOP/s",
    "of the product rate",
    "a step, ms",
    "step's GB/s, of the copy rate",
    "pairs a row",
    "error, against",
)


def markdown(record: dict[str, Any]) -> str:
    """Heading, machine and one table for each case of a record that :func:`rwpm_fast.benchmark.fps.record` made."""
    machine, network = record["machine"], record["network_ms"]
    gpu = machine.get("gpu")
    where = f"{machine['processor']}, {machine['torch_threads']} threads"
    if gpu:
        where = f"{gpu['name']}, driver {gpu['driver']}, CUDA {gpu['cuda']}, Triton {gpu['triton']}"
    lines = [
        f"{where}, torch {machine['torch']}, rwpm_fast {machine['rwpm_fast']} at {record['commit'] or 'no commit'}",
        "",
        f"    {record['command']}",
        "",
        "Steps are transitions; the rows as released make T + 1, as the released code does. "
        + (
            f"The network is given as {network:g} ms a frame."
            if network
            else "No network's time is given (--network-ms)."
        ),
    ]
    for compared in record["cases"]:
        case = compared["case"]
        lines += [
            "",
            f"**{case['title']}**",
            "",
            f"Product rate {compared['peak_flops'] / 1e12:.3g} TFLOP/s, copy {compared['copy_bytes'] / 1e9:.0f} GB/s, "
            f"rounds: {record['rounds']}.",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|" + "---|" * len(COLUMNS),
        ]
        if found := published(case):
            cells = [f"published: {SOURCE}; {WITHOUT_WALK} FPS without the walk", f"{1000 / found.alone:.0f}", ""]
            cells += [f"{found.alone:.2f}", f"{found.with_network:.2f}", "", f"{1024 * found.memory:.0f} with network"]
            lines.append(_row(cells))
        lines += [_row(_cells(row, case, compared, network)) for row in compared["rows"]]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any], case: dict[str, Any], compared: dict[str, Any], network: float) -> list[str]:
    cells = [row["label"]]
    if "skipped" in row:
        cells.append(f"not run: {row['skipped']}")
    elif "failed" in row:
        cells.append(f"failed: {row['failed']}")
    elif not row["matched"]:
        dropped = f", or it drops {row['dropped']:.1e} of a row" if "dropped" in row else ""
        cells.append(f"refused: its error is above the {row['bound']:.0e} of its contract{dropped}")
    else:
        peak, pairs = row.get("peak_bytes"), row.get("pairs")
        share, copied, step = row.get("share_of_peak"), row.get("share_of_copy"), row.get("step_seconds")
        cells += [
            f"{1000 * row['seconds']:.3g}",
            f"{row['spread']:.2f}",
            f"{row['frames_per_second']:.4g}",
            f"{1 / (row['seconds'] + network / 1000):.4g}" if network else "",
            f"{row['speedup']:.2f}" if "speedup" in row else "",
            "" if peak is None else f"{peak / 2**20:.0f}",
            "" if share is None else f"{share * compared['peak_flops'] / 1e12:.3g}",
            "" if share is None else f"{share:.0%}",
            "" if step is None else f"{1000 * step:.3g}",
            "" if copied is None else f"{copied * compared['copy_bytes'] / 1e9:.0f}, {copied:.0%}",
            "" if pairs is None else f"{pairs / case['pixels']:.0f}",
        ]
    cells += [""] * (len(COLUMNS) - 1 - len(cells))
    return [*cells, f"{row['error']:.1e} {row['against']}" if "error" in row else ""]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join([*cells, *[''] * (len(COLUMNS) - len(cells))])} |"
