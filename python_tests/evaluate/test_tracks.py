"""Right values on the validation sets of SegmentMeIfYouCan: exact, as its toolkit prints them, and photo by photo."""

import pytest

from python_tests.places import DATA
from rwpm_fast.evaluate import EvaluationConfig, run

FOLDERS = {"obstacle_track": "smiyc_obstacle_val", "anomaly_track": "smiyc_anomaly_val"}
FIGURES = {
    "obstacle_track": {"AP": 61.27, "FPR95": 31.96, "SMIYC AP": 62.43, "SMIYC FPR95": 31.89, "SMIYC AuROC": 94.48},
    "anomaly_track": {"AP": 58.73, "SMIYC AP": 58.75},
}


def evaluated(track):
    root = DATA / FOLDERS[track]
    if not root.is_dir():
        pytest.skip(f"no data in {root}; set RWPM_DATA to its root")
    config = EvaluationConfig(datasets=track, root=root, network="compact", scores=["energy"], components=True)
    return run(config)


@pytest.mark.slow
@pytest.mark.parametrize("track", FOLDERS)
def test_exact_and_binned_figures_stand_side_by_side(track):
    result = evaluated(track)
    metrics = result.rows[1].metrics()
    assert {name: metrics[name] for name in FIGURES[track]} == pytest.approx(FIGURES[track], abs=0.005)
    cells = dict(zip(result.header(), result.cells()[1], strict=True))
    assert all(float(cells[name]) == pytest.approx(figure, abs=0.011) for name, figure in FIGURES[track].items())
    if track == "obstacle_track":
        assert result.rows[0].metrics()["AP"] == pytest.approx(57.80, abs=0.005)
        paired = result.paired(result.rows[1])
        assert (paired.photos, paired.ap.better, paired.ap.worse, paired.ap.tied) == (30, 11, 12, 7)
        assert 100 * paired.ap.without == pytest.approx(50.58, abs=0.005)
        assert 100 * paired.ap.walked == pytest.approx(47.85, abs=0.005)
        assert paired.ap.low < 0 < paired.ap.high
