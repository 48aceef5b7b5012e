"""Table 5: rows, sums and published figures."""

from __future__ import annotations

import statistics

import pytest

from rwpm_fast.evaluate.module_times import PUBLISHED, module_milliseconds, times_table
from rwpm_fast.synboost.pipeline import Seconds

RUNS = [Seconds(0.5, 0.25, 0.125, 0.2, 0.1, 0.05, 0.01), Seconds(0.7, 0.25, 0.25, 0.3, 0.2, 0.15, 0.03)]


def rows(table):
    return {row[0]: dict(zip(table.header[1:], row[1:], strict=True)) for row in table.rows}


def test_rows_of_a_run():
    times = module_milliseconds(RUNS[0])
    assert list(times) == [*PUBLISHED, "entropy and distance", "ensemble", "whole chain"]
    assert times["segmentation"] == pytest.approx(750)
    assert times["total"] == pytest.approx(750 + 200 + 100 + 50)
    assert times["whole chain"] == pytest.approx(times["total"] + 125 + 10)


def test_published_rows_add_up():
    for total, *modules in zip(*(PUBLISHED[name] for name in ("total", *list(PUBLISHED)[:4])), strict=True):
        assert total == sum(modules)


def test_table():
    table = times_table({"full": RUNS, "light": RUNS[:1]})
    of_synthesis, of_ensemble = rows(table)["synthesis"], rows(table)["ensemble"]
    assert of_synthesis["full, mean ms"] == pytest.approx(250)
    assert of_synthesis["full, std ms"] == pytest.approx(statistics.stdev([200, 300]))
    assert of_synthesis["light, mean ms"] == pytest.approx(200) and of_synthesis["light, std ms"] is None
    assert (of_synthesis["published full, ms"], of_synthesis["published light, ms"]) == (192, 62)
    assert of_ensemble["published full, ms"] is None
    assert rows(table)["total"]["full, mean ms"] == pytest.approx((1100 + 1600) / 2)
    assert "| total | 1350.0 |" in table.markdown() and "GTX 1080 Ti" in table.markdown()


def test_light_chain_alone():
    table = times_table({"light": RUNS})
    assert rows(table)["total"]["published light, ms"] == 175
    assert not any("full" in name for name in table.header)


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ({"heavy": RUNS}, "measured: expected full and light, got 'heavy'"),
        ({"full": []}, "measured: expected one run or more, got none of full"),
    ],
)
def test_wrong_measurements(measured, message):
    with pytest.raises(ValueError, match=message):
        times_table(measured)
