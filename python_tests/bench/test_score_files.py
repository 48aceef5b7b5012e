"""The timing of score maps in files, on few small ones."""

import json

from bench import score_files


def test_measures_reading_beside_metrics(tmp_path, capsys):
    words = ["--maps", "3", "--size", "32", "64", "--folder", str(tmp_path), "--json", str(tmp_path / "record.json")]
    assert score_files.main(words) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert capsys.readouterr().out.startswith(score_files.table(record["steps"], 3))
    assert list(record["steps"]) == ["reading", "metrics", "reading, two methods", "comparison, two methods"]
    assert record["peak_bytes"] > 0 and record["maps"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]  # the maps are gone
