"""The filter alone: what is timed is the filter, what is counted was computed, and a wrong one gets no time."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bench import __main__ as room
from bench.report import render
from rwpm_fast import cli, native
from rwpm_fast.benchmark import Case, CpuDevice, Limits, Record, isas, markdown, time_filter
from rwpm_fast.benchmark import filter as filtering

pytestmark = pytest.mark.skipif(native.unsupported_reason() is not None, reason="the compiled module is not built")

CASE = Case(10, 20, channels=37)
FORMATS = {"amx": "bfloat16", "avx512vnni": "int8"}


@pytest.fixture(autouse=True)
def quick_peak(monkeypatch):
    monkeypatch.setattr(filtering, "PEAK_SECONDS", 0.001)


@pytest.mark.parametrize("pixels", [2, 49, 385, 800])
def test_a_pass_is_the_filter(isa, pixels):
    embeddings = np.random.default_rng(pixels).standard_normal((pixels, 37)).astype(np.float32)
    unit = embeddings.astype(float) / np.linalg.norm(embeddings.astype(float), axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    threshold = 0.2 if pixels > 2 else cosines[0, 1] - 1e-3
    _, tested, kept = native.native().time_filter(embeddings, threshold, 2)
    _, tested_in_vain, nothing = native.native().time_filter(embeddings, filtering.NOTHING, 2)
    _, unasked, _ = native.native().time_filter(embeddings, np.inf, 2)
    assert 0 < (cosines >= threshold + 1e-5).sum() <= kept <= (cosines >= threshold - 1e-5).sum()
    # Every pair once, but in the squares on the diagonal, which are a panel wide: 48 pixels at most.
    assert pixels * (pixels + 1) / 2 <= tested <= pixels * (pixels + min(48, pixels)) / 2
    assert (tested_in_vain, nothing, unasked) == (tested, 0, 0)


def test_a_row(isa):
    (row,) = time_filter(CASE, [isa], 3)
    assert (row.isa, row.format, row.matched) == (isa, FORMATS.get(isa, "float32"), True)
    assert (row.pixels, row.channels, row.name) == (200, 37, "synthetic manifolds")
    assert [len(rates) for rates in (row.load, row.runs, row.peaks)] == [3, 3, 3]
    assert 200 * 201 * 37 <= row.operations <= 200 * 248 * 37
    assert row.seconds == sorted(row.runs)[1] and row.spread == max(row.runs) / min(row.runs)
    assert row.operations_per_second == row.operations / row.seconds
    assert row.peak_operations_per_second == sorted(row.peaks)[1]
    assert row.share_of_peak == row.operations_per_second / row.peak_operations_per_second


def test_instruction_sets_take_turns():
    notes = []
    time_filter(CASE, isas(), 2, note=notes.append)
    assert notes == [f"round {k} of 2: the filter alone, {isa}" for k in (1, 2) for isa in isas()]


@pytest.mark.parametrize("off", [-0.2, 0.2])
def test_a_wrong_filter_gets_no_time(monkeypatch, off):
    real = native.native()

    def wrong(embeddings, threshold, threads):
        seconds, tested, kept = real.time_filter(embeddings, threshold, threads)
        return seconds, tested, round(kept * (1 + off))

    fake = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if not name.startswith("__")})
    fake.time_filter = wrong
    monkeypatch.setattr(native, "native", lambda: fake)
    (row,) = time_filter(CASE, [None], 2)
    assert row.matched is False and not {"seconds", "share_of_peak", "operations"} & row.to_json().keys()
    made = Record(command="test", machine=CpuDevice().facts(), filters=(row,), **Limits().to_json())
    assert not made.sound
    assert "refused: it does not find the pairs that float64 finds" in markdown(made)


@pytest.mark.parametrize("main", [lambda words: cli.main(["bench", *words]), room.main], ids=["package", "room"])
def test_the_command(capsys, tmp_path, main):
    count = len(isas()) if main is room.main else 1
    file = tmp_path / "record.json"
    words = ["--filter", "--pixels", "100", "200", "--channels", "8", "--value-channels", "2", "3", "--rounds", "2"]
    assert main([*words, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    made = json.loads(file.read_text())
    assert made["cases"] == [] and len(made["filter"]) == 2 * count
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2 * count and len({line.count("|") for line in lines}) == 1
    assert out.count("| synthetic manifolds, 10x10 | 100 | 8 |") == count
    assert f"    {made['command']}" in out and "--filter" in made["command"]
    assert render.main([str(file)]) == 0
    assert capsys.readouterr().out == out


def test_no_walks_beside_it(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--filter", "--contenders", "dense"])
    assert "not allowed with" in capsys.readouterr().err


def test_without_the_compiled_module(capsys, monkeypatch):
    monkeypatch.setattr(native, "unsupported_reason", lambda: "not built")
    assert cli.main(["bench", "--filter"]) == 2
    assert "--filter: needs the compiled kernels: not built" in capsys.readouterr().err
