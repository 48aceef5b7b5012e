"""Right values on the validation sets of SegmentMeIfYouCan: exact, as its toolkit prints them, and photo by photo."""

import pytest

from python_tests.places import DATA
from rwpm_fast.evaluate import EvaluationConfig, run

FOLDERS = {"obstacle_track": "smiyc_obstacle_val", "anomaly_track": "smiyc_anomaly_val"}
FIGURES = {
    "obstacle_track": {"AP": 28.40, "FPR95": 27.12, "SMIYC AP": 29.61, "SMIYC FPR95": 27.08, "SMIYC AuROC": 93.25},
    "anomaly_track": {"AP": 50.305, "SMIYC AP": 50.347},
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
        assert result.rows[0].metrics()["AP"] == pytest.approx(27.56, abs=0.005)
        paired = result.paired(result.rows[1])
        assert (paired.photos, paired.ap.better, paired.ap.worse, paired.ap.tied) == (30, 11, 16, 3)
        assert 100 * paired.ap.without == pytest.approx(36.95, abs=0.005)
        assert 100 * paired.ap.walked == pytest.approx(35.75, abs=0.005)
        assert paired.ap.low < 0 < paired.ap.high
