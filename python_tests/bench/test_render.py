import io
import json

import pytest
from PIL import Image

from bench.report import render


def made(label, pixels, seconds, **case):
    case = {
        "name": "synthetic manifolds",
        "title": f"synthetic manifolds: N = {pixels}",
        "pixels": pixels,
        "channels": 16,
        "value_channels": 3,
        "alpha": 0.99,
        "steps": 4,
        "temperature": 0.01,
        **case,
    }
    key = label.split(",")[0]
    row = {"contender": key, "label": label, "operator": "the walk", "error": 1e-6, "against": "float64 dense"}
    row |= {"matched": True, "seconds": seconds, "spread": 1.25, "frames_per_second": 1 / seconds, "speedup": 2.0}
    left_out = {"contender": "keops", "label": "KeOps", "operator": "the walk", "skipped": "would take about 99 s"}
    machine = {"processor": "Some CPU", "torch_threads": 2, "isa_chosen": "avx2", "torch": "2.13", "rwpm_fast": "0"}
    compared = {"case": case, "load": [0.5, 1.5], "peak_flops": 1e11, "copy_bytes": 1e10, "rows": [row, left_out]}
    return {"command": "python -m bench", "commit": None, "rounds": 3, "machine": machine, "cases": [compared]}


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, pixels in enumerate((1024, 4096)):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(made("rwpm_fast, exact", pixels, pixels / 1000)))
    return paths


def run(capsys, *arguments):
    status = render.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_tables(capsys, files):
    status, out, err = run(capsys, *files)
    assert (status, err) == (0, "")
    assert "| rwpm_fast, exact | 1.02 | 1.25 | 0.977 | 2.00 |  |  |  | 1.0e-06 float64 dense |" in out
    assert "| KeOps | not run: would take about 99 s |  |  |  |  |  |  |  |" in out
    tables = [line for line in out.splitlines() if line.startswith("|")]
    assert len(tables) == 2 * 4 and len({line.count("|") for line in tables}) == 1
    assert "**synthetic manifolds: N = 4096**" in out


def test_files_are_written_whole(capsys, tmp_path, files):
    folder = tmp_path / "out"
    folder.mkdir()
    status, out, err = run(capsys, *files, "--markdown", folder / "t.md", "--chart", folder / "c.png")
    assert (status, out, err) == (0, "", "")
    assert (folder / "t.md").read_text() == run(capsys, *files)[1]
    with Image.open(folder / "c.png") as picture:
        picture.load()
        assert picture.width > 500
    assert {p.name for p in folder.iterdir()} == {"t.md", "c.png"}


def width(*records):
    return Image.open(io.BytesIO(render.chart(list(records), ["*"]))).width


def test_chart_has_a_panel_for_each_family():
    one = made("a", 1024, 1.0)
    assert width(one, made("a", 4096, 2.0)) == width(one)
    assert width(one, made("a", 4096, 2.0, steps=9)) == 2 * width(one)


def test_chart_of_nobody(capsys, tmp_path, files):
    status, _, err = run(capsys, *files, "--chart", tmp_path / "c.png", "--contenders", "keops")
    assert status == 2 and "no row with a time matches keops" in err and not (tmp_path / "c.png").exists()


def test_chart_mixes_no_machines(capsys, tmp_path, files):
    other = json.loads(files[0].read_text())
    other["machine"]["processor"] = "Another CPU"
    files[0].write_text(json.dumps(other))
    status, _, err = run(capsys, *files, "--chart", tmp_path / "c.png")
    assert status == 2 and "expected records of one machine, got 2" in err
    assert run(capsys, *files)[0] == 0


@pytest.mark.parametrize("content", ["", "[]", '{"rows": []}', "\xff"])
def test_files_that_are_no_records(capsys, tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode("latin-1"))
    status, _, err = run(capsys, path)
    assert status == 2 and "bad.json: expected a record of python -m bench --json" in err


def test_a_record_that_is_missing(capsys, tmp_path):
    status, _, err = run(capsys, tmp_path / "none.json")
    assert status == 2 and "none.json" in err
