"""``rwpm-fast bench`` and ``python -m bench`` as a user meets them."""

import json

import numpy as np
import pytest

from bench import __main__ as room
from bench.report import render
from rwpm_fast import cli
from rwpm_fast.benchmark import isas

SMALL = ("--channels", 8, "--value-channels", 2, "--steps", 2, "--rounds", 1, "--no-memory")


def run(capsys, *arguments, main=cli.main):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def bench(capsys, *arguments):
    return run(capsys, "bench", *arguments)


def test_table_and_record(capsys, tmp_path):
    file = tmp_path / "new" / "record.json"
    status, out, _ = bench(capsys, "--pixels", 100, 120, *SMALL, "--json", file)
    assert status == 0
    made = json.loads(file.read_text())
    assert [c["case"]["pixels"] for c in made["cases"]] == [100, 120]
    assert made["command"] == (
        "rwpm-fast bench --pixels 100 120 --channels 8 --value-channels 2 --steps 2 --rounds 1 --no-memory"
    )
    assert str(tmp_path) not in file.read_text()
    for compared in made["cases"]:
        rows = {row["contender"]: row for row in compared["rows"]}
        assert len(rows) == 7 and "dense" in rows
        assert all(row["matched"] or "bf16" in key for key, row in rows.items())
        assert rows["dense-bf16-matrix"]["seconds"] and not rows["dense-bf16-matrix"]["matched"]
    assert out.count("| dense torch, subnormals flushed |") == 2
    assert render.main([str(file)]) == 0
    assert capsys.readouterr().out == out


def test_maps_of_files(capsys, tmp_path):
    path = tmp_path / "map.npz"
    np.savez(path, embedding=np.random.default_rng(0).standard_normal((8, 5, 6)))
    small = ("--value-channels", 2, 3, "--steps", 2, "--rounds", 1, "--no-memory", "--contenders", "dense")
    status, out, _ = bench(capsys, "--embeddings", path, "--enlarge", 10, 12, "--temperature", 0.1, *small)
    assert status == 0
    assert "map, 10x12: N = 120, D = 8, C = 2, T = 2, tau = 0.1" in out and "C = 3" in out
    assert "    rwpm-fast bench --embeddings map.npz --enlarge 10 12" in out and str(tmp_path) not in out
    again = bench(capsys, "--embeddings", path, "--shape", 10, 12, "--temperature", 0.1, *small)[1]
    assert "map, 10x12: N = 120, D = 8, C = 2, T = 2, tau = 0.1" in again


def test_sub_maps_in_16_bits(capsys):
    few = ("--contenders", "exact-*", "dense", "chunked")
    status, out, _ = bench(capsys, "--shape", 8, 12, "--parts", 1, 2, "--dtype", "float16", *SMALL, *few)
    assert status == 0
    assert "alpha = 0.99, uncut, float16**" in out and "alpha = 0.99, n = 2, float16**" in out
    assert out.count(" float64 dense |") == 2 * 3


def test_room_adds_every_instruction_set_and_peer(capsys):
    patterns = ("exact-*", "cut", "sdpa", "knn-torch")
    status, out, _ = run(capsys, "--shape", 10, 12, *SMALL, "--contenders", *patterns, main=room.main)
    assert status == 0
    assert out.count("| rwpm_fast, exact") == len(isas()) and "2 x 2 sub-maps" in out
    assert "    python -m bench --shape 10 12" in out


def test_list_runs_nothing(capsys):
    status, out, err = run(capsys, "--list", "--contenders", "*", main=room.main)
    assert (status, err) == (0, "")
    assert {"dense", "dense-unflushed", "flex", "keops"} <= {line.split()[0] for line in out.splitlines()}


def test_without_tolerances(capsys):
    status, out, _ = bench(capsys, "--list", "--tolerance")
    assert status == 0 and "tolerance" not in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--pixels", 1], "pixels: expected 2 or more, got 1"),
        (["--shape", 0, 5], "height: expected 1 or more, got 0"),
        (["--channels", 0], "channels: expected 1 or more, got 0"),
        (["--value-channels", 0], "value_channels: expected 1 or more, got 0"),
        (["--temperature", 0], "temperature: expected a positive finite number, got 0.0"),
        (["--steps", -1], "steps: expected 0 or more transitions, got -1"),
        (["--tolerance", 1], "--tolerance: expected numbers in (0, 1), got 1.0"),
        (["--isa", "mmx"], "--isa: expected instruction sets of"),
        (["--contenders", "turbo"], "contenders: expected patterns of exact-"),
        (["--rounds", 0], "rounds: expected 1 or more, got 0"),
        (["--json", "."], "--json: expected a file, got the folder ."),
        (["--seconds", 0], "seconds: expected a positive number, got 0.0"),
        (["--memory", 0], "memory: expected a positive number, got 0.0"),
        (["--threads", 0], "--threads: expected 1 or more, got 0"),
        (["--enlarge", 5, 5], "--enlarge: only files of --embeddings"),
        (["--embeddings", "no.npz"], "no.npz"),
        (["--embeddings", "no.npz", "--channels", 8], "--channels: the files of --embeddings have their own"),
        (["--embeddings", "no.npz", "--pixels", 8], "--pixels: the files of --embeddings have their own"),
        (["--embeddings", "no.npz", "--enlarge", 5, 5, "--shape", 5, 5], "--enlarge: --shape sets it"),
        (["--shape", 9, 9, "--parts", 2], "parts: expected a divisor of 9 and 9, got 2"),
        (["--paper", "--steps", 2], "--steps: --paper sets it"),
        (["--device", "nowhere"], "--device: 'nowhere' cannot be used"),
    ],
    ids=lambda part: " ".join(map(str, part)) if isinstance(part, list) else "",
)
@pytest.mark.parametrize("main", [lambda words: cli.main(["bench", *words]), room.main], ids=["package", "room"])
def test_bad_arguments(capsys, main, arguments, text):
    status, out, err = run(capsys, *arguments, main=main)
    assert status == 2 and out == ""
    (line,) = err.splitlines()
    assert text in line and line.startswith(("rwpm-fast bench: ", "python -m bench: "))


def test_two_sizes_at_once(capsys):
    with pytest.raises(SystemExit):
        bench(capsys, "--pixels", 100, "--shape", 5, 5)
    assert "not allowed with" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, out, err = bench(capsys, *SMALL, "--json", tmp_path / "file" / "record.json")
    assert status == 2 and out == "" and "file" in err
