"""How a stream is doing, while it runs and at its end, in lines for people."""

from __future__ import annotations

import time
from typing import TextIO

from .summary import Summary

_COLUMNS = ("frame", "FPS", "p50 ms", "p95 ms", "p99 ms", "dropped", "broken", "degraded", "walk")
_WIDTH = 9
_TICK = {True: 0.25, False: 5.0}  # seconds from line to line, on a terminal and elsewhere


class LiveTable:
    """One line of numbers under a head: replaced again and again on a terminal, a new line now and then elsewhere.

    Args:
        stream: that it is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._shown: tuple[float, int] | None = None  # by the clock, and frames that were scored by then
        self._open = False

    def update(self, summary: Summary) -> None:
        """Show how far the stream is, unless it was shown just now."""
        now = time.perf_counter()
        if self._shown is None:
            self._print("".join(f"{name:>{_WIDTH}}" for name in _COLUMNS), "\n")
            self._shown = (now, summary.processed)
            return
        begin, before = self._shown
        if now - begin < _TICK[self._terminal]:
            return
        self._shown = (now, summary.processed)
        line = self.line(summary, (summary.processed - before) / (now - begin))
        if self._terminal:
            self._print(f"\r{line}\x1b[K", "")
            self._open = True
        else:
            self._print(line, "\n")

    def note(self, text: str) -> None:
        """Print a line between those of the table."""
        self.close()
        self._print(text, "\n")

    def close(self) -> None:
        """End the line that is being replaced."""
        if self._open:
            self._print("", "\n")
            self._open = False

    @staticmethod
    def line(summary: Summary, rate: float) -> str:
        """Return the numbers under the head.

        Args:
            summary: of the frames so far.
            rate: scored frames per second, of late.
        """
        milliseconds = [f"{summary.latencies.percentile(percent) * 1e3:.1f}" for percent in (50, 95, 99)]
        counts = [str(count) for count in (summary.dropped, summary.broken, summary.degraded)]
        cells = [str(summary.frames), f"{rate:.1f}", *milliseconds, *counts, f"{summary.walk_share:.0%}"]
        return "".join(f"{cell:>{_WIDTH}}" for cell in cells)

    def _print(self, text: str, end: str) -> None:
        print(text, end=end, file=self._stream, flush=True)


def summary_text(summary: Summary) -> str:
    """Return the summary of a stream, some lines."""
    lines = [
        f"{summary.frames} frames: {summary.processed} processed, {summary.dropped} dropped, {summary.broken} broken",
        *_details("dropped", summary.drops),
        *_details("broken", summary.breaks),
        *_details("processed, though marked", summary.marked),
    ]
    if summary.processed:
        percentiles = ", ".join(f"p{p} {summary.latencies.percentile(p) * 1e3:.1f}" for p in (50, 95, 99))
        lines.append(
            f"{summary.rate:.1f} frames/s; latency {percentiles}, max {summary.latencies.largest * 1e3:.1f} ms"
        )
        means = ", ".join(f"{name} {spent / summary.processed * 1e3:.1f}" for name, spent in summary.stages.items())
        lines.append(f"a frame takes {means} ms; walk {summary.walk_share:.0%}")
    if summary.deadline is not None:
        lines.append(f"deadline {summary.deadline * 1e3:g} ms: {summary.late} late, {summary.degraded} degraded")
        lines += _details("degraded", summary.degradations)
    if summary.ended is not None:
        lines.append(f"ended before its source: {summary.ended}")
    return "\n".join(lines)


def _details(outcome: str, counts: dict[str, int]) -> list[str]:
    return [f"  {outcome}: {count}, {reason}" for reason, count in counts.items()]
