"""Tables of accuracy from records of evaluations."""

import json

from bench.report import accuracy


def line(dataset, label, score, ap):
    return {"dataset": dataset, "label": label, "score": score, "auroc": 0.5, "ap": ap, "fpr95": 1 - ap}


def test_scores_stand_side_by_side_and_the_best_is_bold(tmp_path, capsys):
    first = [line("Road", walk, score, ap) for score in "ab" for walk, ap in (("without", 0.25), ("n = 1", 0.5))]
    second = [line("Road", "without", "a", 0.25), line("Road", "without", "b", 0.25), line("Track", "x", "a", 0.1)]
    files = []
    for number, lines in enumerate((first, second)):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps({"lines": lines}))
    assert accuracy.main([*map(str, files)]) == 0
    assert capsys.readouterr().out == (
        "**Road**\n\n"
        "| walk | a: AuROC | a: AP | a: FPR95 | b: AuROC | b: AP | b: FPR95 |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| without | **50.00** | 25.00 | 75.00 | **50.00** | 25.00 | 75.00 |\n"
        "| n = 1 | **50.00** | **50.00** | **50.00** | **50.00** | **50.00** | **50.00** |\n\n"
        "**Track**\n\n"
        "| walk | a: AuROC | a: AP | a: FPR95 |\n| --- | --- | --- | --- |\n"
        "| x | **50.00** | **10.00** | **90.00** |\n"
    )


def photo_line(label, aps, **more):
    photos = [{"photo": str(n), "ap": ap, "positives": int(n < 2), "negatives": 9} for n, ap in enumerate(aps)]
    return {"dataset": "Road", "score": "a", "label": label, "by_photo": photos, "walk": None, **more}


def test_photo_by_photo(tmp_path, capsys):
    paired = {"ap": {"better": 1, "worse": 1, "tied": 0}}
    without = photo_line("without", [0.5, 0.25, float("nan")])  # no anomaly in the last
    walked = photo_line("with", [0.25, 0.75, float("nan")], walk={"alpha": 0.99}, against_without=paired)
    (tmp_path / "record.json").write_text(json.dumps({"lines": [without, walked]}))
    assert accuracy.main([str(tmp_path / "record.json"), "--by-photo"]) == 0
    assert capsys.readouterr().out == (
        "| data set | score | walk | mean AP | better | worse | tied | worst photo |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| Road | a | without | 37.50 |  |  |  |  |\n"
        "| Road | a | with | 50.00 | 1 | 1 | 0 | -25.00 |\n"
    )
