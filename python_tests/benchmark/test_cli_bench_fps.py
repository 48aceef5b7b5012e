"""``rwpm-fast bench fps`` as a user meets it."""

import json
from dataclasses import replace

import pytest
import torch

from bench.report import render
from rwpm_fast import cli
from rwpm_fast.benchmark import Case, CpuDevice, CudaDevice, Limits, Record, compare, machine, open_device, walk_entries
from rwpm_fast.benchmark.contender import chosen


@pytest.fixture(autouse=True)
def quick_machine(monkeypatch):
    monkeypatch.setattr(machine, "peak_flops", lambda: 1e9)
    monkeypatch.setattr(machine, "copy_bytes", lambda: 1e9)


def test_command_and_chart(capsys, tmp_path):
    file = tmp_path / "record.json"
    small = "--shape 8 12 --parts 1 2 --channels 8 --value-channels 2 --steps 2 --dtype float32 --rounds 1 --no-memory"
    words = f"bench fps --device cpu {small} --contenders exact-cpu dense-* --network-ms 10".split()
    assert cli.main([*words, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    made = json.loads(file.read_text())
    assert made["kind"] == "fps" and made["command"].startswith("rwpm-fast bench fps ") and len(made["cases"]) == 2
    assert str(tmp_path) not in file.read_text()
    assert render.main([str(file), "--chart", str(tmp_path / "chart.png")]) == 0
    assert capsys.readouterr().out == out and (tmp_path / "chart.png").stat().st_size > 1000


def test_chart_mixes_no_kinds(capsys, tmp_path):
    case, quick = Case(8, 12, channels=8, value_channels=2), Limits(rounds=1, measure_memory=False)
    compared = compare(case, chosen(walk_entries(case, []), ["dense"]), quick)
    made = Record(command="test", machine=CpuDevice().facts(), cases=(compared,), **quick.to_json())
    paths = []
    for kind in ("fps", "walk"):
        paths.append(str(tmp_path / f"{kind}.json"))
        (tmp_path / f"{kind}.json").write_text(json.dumps(replace(made, kind=kind).to_json()))
    status = render.main([*paths, "--chart", str(tmp_path / "c.png")])
    assert status == 2 and "expected records of one kind" in capsys.readouterr().err


def test_list_and_defaults(capsys):
    assert cli.main(["bench", "fps", "--list", "--device", "cpu"]) == 0
    keys = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {"dense-released", "dense-tuned", "chunked", "flex", "knn-torch", "knn-cuvs", "keops"} <= keys


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--shape 8 6 --parts 4", "parts: expected a divisor of 8 and 6, got 4"),
        ("--dtype int8", "dtype: expected one of float16, float32, got 'int8'"),
        ("--device nowhere", "--device: 'nowhere' cannot be used"),
        ("--tolerance 1", "--tolerance: expected numbers in (0, 1), got 1.0"),
        ("--network-ms -1", "--network-ms: expected milliseconds, 0 or more, got -1"),
        ("--paper --parts 2", "--parts: --paper sets it"),
        ("--embeddings no.npz", "no.npz"),
        ("--embeddings no.npz --channels 8", "--channels: the files of --embeddings have their own"),
        ("--contenders turbo", "contenders: expected patterns of exact-"),
        ("--rounds 0", "rounds: expected 1 or more, got 0"),
        ("--json .", "--json: expected a file, got the folder ."),
    ],
    ids=str,
)
def test_bad_arguments(capsys, words, text):
    status = cli.main(["bench", "fps", *words.split()])
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and text in err and len(err.splitlines()) == 1


def test_devices():
    assert isinstance(open_device("cpu"), CpuDevice) and open_device("cpu").name == "cpu"
    if torch.cuda.is_available():
        assert isinstance(open_device("cuda"), CudaDevice) and open_device("cuda").name == "cuda:0"
    else:
        with pytest.raises((RuntimeError, AssertionError)):
            open_device("cuda")
