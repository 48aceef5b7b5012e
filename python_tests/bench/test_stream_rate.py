"""The timing of streams, on frames of few pixels."""

import json

import pytest

from bench import stream_rate


def test_measures_what_it_has_checked(tmp_path, monkeypatch, capsys):
    file = tmp_path / "record.json"
    words = ["--size", "32", "64", "--frames", "4", "--paced-frames", "6", "--rounds", "1", "--rate", "200", "--json"]
    assert stream_rate.main([*words, str(file)]) == 0
    assert "one after the other" in capsys.readouterr().out
    record = json.loads(file.read_text())
    (row,) = record["rounds"]
    assert row["stream"]["seconds"] > 0 and set(row["stream"]["stages"]) == {"decode", "network", "walk", "score"}
    for run in (record["camera"], record["deadline"]):
        assert run["frames"] == 6 == run["processed"] + run["dropped"]
    assert record["deadline"]["deadline"] == pytest.approx(row["one after the other"]["seconds"] * 100 / 150)


def test_wrong_scores_are_no_measurement(monkeypatch, capsys):
    monkeypatch.setattr(stream_rate, "MAX_ERROR", -1.0)
    assert stream_rate.main(["--size", "32", "64"]) == 2
    assert "scores: expected errors of at most -1.0" in capsys.readouterr().err
