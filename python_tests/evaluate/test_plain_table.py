"""Tables of figures as Markdown, CSV and JSON."""

from __future__ import annotations

import json

from rwpm_fast.evaluate.plain_table import PlainTable

TABLE = PlainTable(
    "Times",
    ("module", "ms", "published ms"),
    [("segmentation", 12.345, 1256.0), ("a|b", float("nan"), None)],
    digits=1,
    source="Table 5",
    notes=("One photo.",),
    command="rwpm-fast evaluate --table 5",
    settings={"runs": 3},
    failures={"a.png": "broken"},
)


def test_markdown():
    assert TABLE.markdown().split("\n\n") == [
        "Times",
        "| module | ms | published ms |\n| --- | --- | --- |\n| segmentation | 12.3 | 1256.0 |\n| a\\|b | - | - |",
        "Published: Table 5, for orientation.",
        "One photo.\n",
    ]


def test_csv_is_not_rounded():
    assert TABLE.csv() == "module,ms,published ms\nsegmentation,12.345,1256.0\na|b,nan,\n"


def test_json():
    content = json.loads(json.dumps(TABLE.as_dict()))
    assert content["lines"][0] == {"module": "segmentation", "ms": 12.345, "published ms": 1256.0}
    assert content["lines"][1]["published ms"] is None
    assert content["settings"] == {"runs": 3} and content["failures"] == {"a.png": "broken"}
