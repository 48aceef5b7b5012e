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
