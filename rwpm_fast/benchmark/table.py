"""A record as Markdown."""

from __future__ import annotations

from collections.abc import Callable

from ..io.markdown import markdown_table
from .published import SOURCE, WITHOUT_WALK, published_row
from .record import Comparison, FilterResult, Record, Result

Cell = Callable[[Result, Comparison, Record], str]


def share(value: float | None) -> str:
    """A share of a peak in per cent. Above 100 % what was measured as the peak was none: nothing is shown."""
    return "" if value is None or value > 1 else f"{value:.0%}"


def _text(value: float | None, form: str, factor: float = 1.0) -> str:
    return "" if value is None else format(factor * value, form)


def _figure(name: str, form: str, factor: float = 1.0) -> Cell:
    """A cell with an attribute of the row, multiplied by a factor."""
    return lambda row, compared, record: _text(getattr(row, name), form, factor)


def _share_of_peak(row: Result, compared: Comparison, record: Record) -> str:
    return share(row.share_of_peak)


def _with_network(row: Result, compared: Comparison, record: Record) -> str:
    if not record.network_ms or row.seconds is None:
        return ""
    return f"{1 / (row.seconds + record.network_ms / 1000):.4g}"


def _operations(row: Result, compared: Comparison, record: Record) -> str:
    return _text(row.share_of_peak, ".3g", compared.peak_flops / 1e12)


def _gathered(row: Result, compared: Comparison, record: Record) -> str:
    return _text(row.share_of_copy, ".1f", compared.copy_bytes / 1e9)


def _copied(row: Result, compared: Comparison, record: Record) -> str:
    rate = _text(row.share_of_copy, ".0f", compared.copy_bytes / 1e9)
    return ", ".join(filter(None, (rate, share(row.share_of_copy))))


def _pairs_a_row(row: Result, compared: Comparison, record: Record) -> str:
    return _text(row.pairs, ".0f", 1 / compared.case.pixels)


WALK: dict[str, Cell] = {
    "seconds, median": _figure("seconds", ".3g"),
    "max / min": _figure("spread", ".2f"),
    "frames/s": _figure("frames_per_second", ".3g"),
    "times dense's speed": _figure("speedup", ".2f"),
    "peak memory, MiB": _figure("peak_bytes", ".0f", 2**-20),
    "of the FMA peak": _share_of_peak,
    "step's gathers, GB/s": _gathered,  # no share of the copy rate: most of them come from caches
}
FPS: dict[str, Cell] = {
    "ms, median": _figure("seconds", ".3g", 1000),
    "max / min": _figure("spread", ".2f"),
    "FPS, walk alone": _figure("frames_per_second", ".4g"),
    "FPS with network": _with_network,
    "times released's speed": _figure("speedup", ".2f"),
    "peak memory, MiB": _figure("peak_bytes", ".0f", 2**-20),
    "TFLOP/s": _operations,
    "of the product rate": _share_of_peak,
    "a step, ms": _figure("step_seconds", ".3g", 1000),
    "step's GB/s, of the copy rate": _copied,
    "pairs a row": _pairs_a_row,
}
FILTER: dict[str, Callable[[FilterResult], str]] = {
    "seconds, median": lambda row: _text(row.seconds, ".3g"),
    "max / min": lambda row: _text(row.spread, ".2f"),
    "Gop/s": lambda row: _text(row.operations_per_second, ".0f", 1e-9),
    "peak, Gop/s": lambda row: _text(row.peak_operations_per_second, ".0f", 1e-9),
    "of the peak": lambda row: share(row.share_of_peak),
}


def markdown(record: Record) -> str:
    """Heading, machine, one table for each case and one for all filters of a record."""
    fps = record.kind == "fps"
    lines = [f"{_machine(record)}, {record.versions}", "", f"    {record.command}"]
    if fps:
        lines += ["", "Steps are transitions; the rows as released make T + 1, as the released code does. "]
        lines[-1] += (
            f"The network is given as {record.network_ms:g} ms a frame."
            if record.network_ms
            else "No network's time is given (--network-ms)."
        )
    for compared in record.cases:
        lines += ["", f"**{compared.case.title()}**", "", f"{_rates(record, compared)}, rounds: {record.rounds}.", ""]
        lines.append(_table(record, compared, FPS if fps else WALK))
    if record.filters:
        loads = [load for row in record.filters for load in row.load]
        lines += [
            "",
            "**The filter of a walk with a tolerance, alone: half of all pairs, nothing found**",
            "",
            f"Load {min(loads, default=0):.1f} to {max(loads, default=0):.1f}, rounds: {record.rounds}; a "
            "multiply-add is two operations.",
            "",
            markdown_table(["map", "N", "D", "instruction set", "numbers", *FILTER], map(_filter, record.filters)),
        ]
    return "\n".join(lines) + "\n"


def _machine(record: Record) -> str:
    gpu = record.machine.get("gpu")
    if gpu:
        return f"{gpu['name']}, driver {gpu['driver']}, CUDA {gpu['cuda']}, Triton {gpu['triton']}"
    return record.where if record.kind == "fps" else f"{record.where}, kernels for {record.machine['isa_chosen']}"


def _rates(record: Record, compared: Comparison) -> str:
    """What the device reached in the same run."""
    if record.kind == "fps":
        return f"Product rate {compared.peak_flops / 1e12:.3g} TFLOP/s, copy {compared.copy_bytes / 1e9:.0f} GB/s"
    peak = "float16 product rate" if "gpu" in record.machine else "float32 peak"
    return (
        f"Load {min(compared.load):.1f} to {max(compared.load):.1f}, {peak} {compared.peak_flops / 1e9:.0f} GFLOP/s, "
        f"copy {compared.copy_bytes / 1e9:.1f} GB/s"
    )


def _table(record: Record, compared: Comparison, columns: dict[str, Cell]) -> str:
    rows = []
    for row in compared.rows:
        refusal = _refusal(row)
        cells = [cell(row, compared, record) for cell in columns.values()] if refusal is None else [refusal]
        cells += [""] * (len(columns) - len(cells))
        rows.append([row.label + (f" ({row.note})" if row.note else ""), *cells, _error(row)])
    if record.kind == "fps" and (found := published_row(compared.case)):
        shown = [f"published: {SOURCE}; {WITHOUT_WALK} FPS without the walk", f"{1000 / found.alone:.0f}", ""]
        shown += [f"{found.alone:.2f}", f"{found.with_network:.2f}", "", f"{1024 * found.memory:.0f} with network"]
        rows.insert(0, shown)
    return markdown_table(["walk", *columns, "error, against"], rows)


def _error(row: Result) -> str:
    if row.error is None:
        return ""
    far = row.accepted and not row.matched
    return f"{row.error:.1e} {row.against}" + (f"; no match, up to {row.expected:.0e} is expected" if far else "")


def _refusal(row: Result) -> str | None:
    """Why a contender gets no time; None where it does."""
    if row.skipped is not None:
        return f"not run: {row.skipped}"
    if row.failed is not None:
        return f"failed: {row.failed}"
    if row.accepted:
        return None
    if row.expected is not None:
        return f"refused: its error is above the {row.expected:.0e} that is expected"
    dropped = "" if row.dropped is None else f", or it drops {row.dropped:.1e} of a row"
    return f"refused: its error is above the {row.bound:.0e} of its contract{dropped}"


def _filter(row: FilterResult) -> list[object]:
    cells: list[object] = [f"{row.name}, {row.height}x{row.width}", row.pixels, row.channels, row.isa, row.format]
    if not row.matched:
        return [*cells, "refused: it does not find the pairs that float64 finds"]
    return cells + [cell(row) for cell in FILTER.values()]
