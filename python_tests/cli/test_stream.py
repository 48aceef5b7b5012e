"""The command ``stream``: files, statuses, signals, disks that are full."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from rwpm_fast.cli import main

SCORE = ["--steps", "2"]


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_everything_is_written(frames, tmp_path, capsys):
    for module in ("av", "mcap", "h5py"):
        pytest.importorskip(module)
    (frames / "3.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    files = {"save-video": "a.mp4", "save-scores": "a.h5", "mcap": "a.mcap", "json": "a.jsonl", "chart": "a.png"}
    words = [word for name, file in files.items() for word in (f"--{name}", str(out / file))]
    assert main(["stream", str(frames), "--all-frames", *words, *SCORE]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(files.values())
    printed = capsys.readouterr()
    assert "6 frames: 5 processed, 0 dropped, 1 broken" in printed.out and "3.png" in printed.out
    assert "FPS" in printed.err
    lines = [json.loads(line) for line in (out / "a.jsonl").read_text().splitlines()]
    assert [line.get("outcome") for line in lines] == [*["processed"] * 3, "broken", *["processed"] * 2, None]


def test_where_no_frame_can_be_scored_nothing_is_written(tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/0.png").write_bytes(b"no picture")
    files = ["--save-scores", str(tmp_path / "out/scores"), "--chart", str(tmp_path / "out/a.png")]
    assert main(["stream", str(tmp_path / "frames"), *files, *SCORE]) == 1
    printed = capsys.readouterr()
    assert "1 frames: 0 processed, 0 dropped, 1 broken" in printed.out and "no frame was scored" in printed.err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_lines_go_to_standard_output_alone(frames, capsys):
    assert main(["stream", str(frames), "--json", "-", *SCORE]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 7 and lines[-1]["summary"]["processed"] == 6


def test_scores_are_those_of_score(frames, tmp_path):
    assert main(["stream", str(frames), "--all-frames", "--save-scores", str(tmp_path / "a"), *SCORE]) == 0
    assert main(["score", str(frames), "--out", str(tmp_path / "b"), "--no-panel", *SCORE]) == 0
    for number in range(6):
        streamed = np.load(tmp_path / "a" / f"{number:06d}.npy")
        np.testing.assert_allclose(streamed, np.load(tmp_path / "b" / f"{number}.npy"), rtol=1e-4, atol=1e-4)


def test_a_deadline_leaves_a_mark_on_every_frame(frames, tmp_path, capsys):
    file = tmp_path / "a.jsonl"
    words = ["--deadline", "60000", "--rate", "1000", "--queue", "10", "--json", str(file)]
    assert main(["stream", str(frames), *words, *SCORE]) == 0
    assert "deadline 60000 ms: 0 late, 0 degraded" in capsys.readouterr().out
    assert json.loads(file.read_text().splitlines()[-1])["summary"]["deadline"] == 60.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--deadline", "100"], "deadline: the frames of {frames} come without any time"),
        (["--deadline", "-1", "--rate", "5"], "--deadline: expected milliseconds above 0, got -1"),
        (["--deadline", "9", "--all-frames"], "--deadline: expected none with --all-frames"),
        (["--queue", "0"], "--queue: expected 1 frame or more, got 0"),
        (["--save-video", "a.avi"], "--save-video: expected a file .mp4"),
        (["--chart", "a.txt"], "--chart: expected a file .png"),
        (["--score-range", "2", "1"], "--score-range: expected LOW below HIGH"),
        (["--json", "{frames}/2.png"], "--json: would replace {frames}/2.png"),
        (["--json", "a", "--mcap", "a"], "both would write a"),
        (["--rerun", "a.rrd"], "--rerun needs rerun-sdk"),
    ],
)
def test_what_is_wrong_is_told(frames, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "rerun", None)
    words = [word.format(frames=frames) for word in words]
    assert main(["stream", str(frames), *words, *SCORE]) == 2
    assert message.format(frames=frames) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_a_source_that_is_not_there(tmp_path, capsys):
    assert main(["stream", str(tmp_path / "none.mp4"), *SCORE]) == 2
    assert "none.mp4" in capsys.readouterr().err


# A command whose source, without end, gives a frame a millisecond. It says when the first was scored.
ENDLESS = """
import itertools, sys, time
import numpy as np
import rwpm_fast.stream as room
from rwpm_fast.cli import main

class Endless:
    info = room.SourceInfo("endless", "camera", "fake", live=True)
    def __iter__(self):
        for index in itertools.count():
            time.sleep(1e-3)
            noise = np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)
            yield room.VideoFrame(index, index / 1000, noise)
    def close(self):
        pass

room.open_source = lambda source, **_: Endless()
status = main(["stream", "0", *sys.argv[1:]])
print("status", status, flush=True)
sys.exit(status)
"""


def endless(tmp_path, *words, **settings):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *words, "--steps", "2", "--json", "lines.jsonl"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def wait_for_frames(tmp_path):
    begin = time.monotonic()
    while not any(path.suffix == ".tmp" and path.stat().st_size for path in tmp_path.iterdir()):
        assert time.monotonic() - begin < 60
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_stream_cleanly(tmp_path, number):
    process = endless(tmp_path, "--save-scores", "scores.h5")
    wait_for_frames(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"ended before its source: {number.name}" in out and "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.jsonl", "scores.h5"]
    *lines, last = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    counts = last["summary"]
    assert counts["frames"] == counts["processed"] + counts["dropped"] + counts["broken"] == len(lines)
    assert [line["index"] for line in lines] == list(range(len(lines)))


def test_a_disk_that_fills_costs_the_files_on_it(tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    for module in ("av", "h5py", "mcap"):
        pytest.importorskip(module)
    files = ["--mcap", "a.mcap", "--save-scores", "a.h5", "--save-video", "a.mp4"]
    process = endless(tmp_path, *files, preexec_fn=limit)
    # Lines have no room after some hundred frames either; the stream goes on, and its summary is right.
    err, begin = "", time.monotonic()
    while err.count("given up") < 4:
        err += process.stderr.readline()
        assert process.poll() is None and time.monotonic() - begin < 60, err
    process.send_signal(signal.SIGTERM)
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err + rest
    assert all(
        f"{name}: failed at frame" in err for name in ("--mcap a.mcap", "--save-scores a.h5", "--json lines.jsonl")
    )
    assert not list(tmp_path.iterdir())
    words = out.split()
    frames, processed, dropped, broken = (int(words[place]) for place in (0, 2, 4, 6))
    assert frames == processed + dropped + broken > 0
