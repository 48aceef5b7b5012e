"""The command ``python -m bench.report.accuracy``.

python -m bench.report.accuracy RECORD.json ...
python -m bench.report.accuracy --by-photo RECORD.json ...
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rwpm_fast.io.console import run_command
from rwpm_fast.io.markdown import markdown_table

SUMMARY = "Records of rwpm-fast evaluate --json as Markdown, a table a data set, the scores side by side."
METRICS = {"auroc": ("AuROC", max), "ap": ("AP", max), "fpr95": ("FPR95", min)}


def tables(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table a data set: walks of all records by row, those of an equal name once; the best of a column is bold."""
    lines = [line for record in records for line in record["lines"]]
    for dataset in dict.fromkeys(line["dataset"] for line in lines):
        yield f"**{dataset}**\n\n{_table([line for line in lines if line['dataset'] == dataset])}"


def _table(lines: Sequence[dict[str, Any]]) -> str:
    found = {(line["label"], line["score"]): line for line in lines}
    labels, scores = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    header, columns = ["walk"], []
    for score in scores:
        for metric, (name, better) in METRICS.items():
            figures = [found[label, score][metric] for label in labels]
            best = f"{100 * better(figures):.2f}"  # as printed, so that equals are equal
            header.append(f"{score}: {name}")
            columns.append([f"**{text}**" if text == best else text for text in (f"{100 * f:.2f}" for f in figures)])
    return markdown_table(header, zip(labels, *columns, strict=True))


def photo_table(record: dict[str, Any]) -> str:
    """A line a data set, score and walk: AP of every photo with an anomaly by itself, compared with no walk."""
    plain = {(line["dataset"], line["score"]): _photo_aps(line) for line in record["lines"] if line["walk"] is None}
    rows = []
    for line in record["lines"]:
        aps, change = _photo_aps(line), []
        if line["walk"] is not None:
            before, paired = plain[line["dataset"], line["score"]], line["against_without"]["ap"]
            worst = min(ap - before[photo] for photo, ap in aps.items())
            change = [*(paired[name] for name in ("better", "worse", "tied")), f"{100 * worst:+.2f}"]
        rows.append([line["dataset"], line["score"], line["label"], f"{100 * fmean(aps.values()):.2f}", *change])
    return markdown_table(["data set", "score", "walk", "mean AP", "better", "worse", "tied", "worst photo"], rows)


def _photo_aps(line: dict[str, Any]) -> dict[str, float]:
    return {photo["photo"]: photo["ap"] for photo in line["by_photo"] if photo["positives"] and photo["negatives"]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report.accuracy", description=SUMMARY)
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD")
    parser.add_argument("--by-photo", action="store_true", help="AP photo by photo, a table a record")
    return run_command(parser, show, arguments)


def show(options: argparse.Namespace) -> int:
    records = [json.loads(path.read_text()) for path in options.records]
    print("\n\n".join(map(photo_table, records) if options.by_photo else tables(records)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
