import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bench import gradient, stream_rate
from bench.report import accuracy, render
from rwpm_fast.benchmark import Record

RESULTS = Path(render.__file__).parents[1] / "results"


def made(label, pixels, seconds, **case):
    case = {
        "height": 64,
        "width": pixels // 64,
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
    limits = {"seconds": 30.0, "memory": 1e9}
    origin = {"command": "python -m bench", "commit": None, "rounds": 3, "machine": machine, "limits": limits}
    return {**origin, "cases": [compared]}


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
    assert "**synthetic manifolds, 64x64: N = 4096, " in out


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
    return Image.open(io.BytesIO(render.chart(list(map(Record.from_json, records)), ["*"]))).width


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


@pytest.mark.parametrize("content", ["", "[]", '{"rows": []}', "\xff", '{"cases": [], "kind": "share"}'])
def test_files_that_are_no_records(capsys, tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode("latin-1"))
    status, _, err = run(capsys, path)
    assert status == 2 and "bad.json: expected a record of python -m bench --json" in err


def test_a_record_that_is_missing(capsys, tmp_path):
    status, _, err = run(capsys, tmp_path / "none.json")
    assert status == 2 and "none.json" in err


COMMITTED = sorted(path for path in RESULTS.rglob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(RESULTS)))
def test_committed_records(capsys, path):
    """All are rendered, whatever their format, but those of a changed tree."""
    content = json.loads(path.read_text())
    if "lines" in content:
        assert accuracy.main([str(path)]) == 0
        assert "| walk |" in capsys.readouterr().out
        return
    if "formats" in content:  # of rwpm-fast benchmark, which prints its table itself
        assert not content["commit"].endswith("-dirty")
        assert [result["name"] for result in content["formats"] if result["reason"] is None]
        return
    if content.get("kind") == "gradient":  # of python -m bench.gradient, likewise
        assert not content["commit"].endswith("-dirty") and "/" not in content["command"]
        assert len(gradient.table(content["rows"]).splitlines()) == 2 + len(content["rows"])
        return
    if content.get("kind") == "stream":  # of python -m bench.stream_rate, likewise
        assert not content["commit"].endswith("-dirty")
        assert len(stream_rate.table(content["rounds"]).splitlines()) == 2 + len(content["rounds"])
        return
    status, out, err = run(capsys, path)
    if content["commit"].endswith("-dirty"):
        (line,) = err.splitlines()
        assert (status, out) == (2, "") and f"{path}: expected figures of a commit" in line
        assert f"got {content['commit']}; commit what is changed and record again: {content['command']}" in line
        return
    assert (status, err) == (0, "")
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    assert len(rows) >= 3 and f"    {content['command']}\n" in out
    assert not [share for share in re.findall(r"([0-9.]+) ?%", out) if float(share) > 100]
    for compared in content["cases"]:
        for row in compared["rows"]:
            if "contender" not in row or "share_of_peak" not in row:
                continue
            (line,) = [r for r in rows if r.startswith(f"| {row['label']} | {row['seconds']:.3g} |")]
            counted_otherwise = content.get("format", 1) < 2 and row["contender"].startswith("exact-")
            assert counted_otherwise == (f"| {row['share_of_peak']:.0%} |" not in line)


def test_there_are_committed_records():
    assert len(COMMITTED) > 10


def test_a_record_of_a_changed_tree_is_refused(capsys, tmp_path, files):
    record = json.loads(files[1].read_text()) | {"commit": "0123abc-dirty"}
    files[1].write_text(json.dumps(record))
    status, out, err = run(capsys, *files, "--markdown", tmp_path / "t.md", "--chart", tmp_path / "c.png")
    assert (status, out) == (2, "") and not (tmp_path / "t.md").exists() and not (tmp_path / "c.png").exists()
    assert err == (
        f"python -m bench.report.render: {files[1]}: expected figures of a commit that can be checked out, got "
        "0123abc-dirty; commit what is changed and record again: python -m bench\n"
    )


def test_runs_as_a_module(files):
    words = [sys.executable, "-m", "bench.report.render", str(files[0])]
    root = str(RESULTS.parents[1])
    done = subprocess.run(words, cwd=root, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "| rwpm_fast, exact | 1.02 |" in done.stdout


def test_no_chart_of_shares(capsys, tmp_path):
    path = next(path for path in COMMITTED if json.loads(path.read_text()).get("kind") == "share")
    status, _, err = run(capsys, path, "--chart", tmp_path / "c.png")
    assert status == 2 and "expected records of one kind" in err
