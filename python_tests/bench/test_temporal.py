"""Walks and blurs are measured on the same frames, as the package measures them."""

from bench.temporal import BLURS, main
from rwpm_fast import Scorer, Walk
from rwpm_fast.evaluate import drive_sequence, measure_temporal
from rwpm_fast.networks import load


def test_rows_are_those_of_the_package(capsys):
    assert main(["--drives", "1", "--frames", "3", "--size", "64", "128", "--cost", "0.05"]) == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 3 + len(BLURS) and len({tuple(row[1:]) for row in rows}) == len(rows)
    plain = Scorer(load(), "energy")
    scorers = {"without a walk": plain, "published walk": plain.with_walk(Walk(tolerance=1e-4))}
    for row, wanted in zip(
        rows, measure_temporal(scorers, [drive_sequence(0, 3, (64, 128))], ["energy"], cost=0.05), strict=False
    ):
        accuracy = wanted.instant.ap, wanted.instant.fpr95, wanted.streaming.pixels.ap, wanted.streaming.pixels.fpr95
        assert row[:2] == [wanted.scorer, f"{wanted.consistency.change:.3f}"]
        assert row[4:] == [f"{100 * value:.2f}" for value in accuracy]
