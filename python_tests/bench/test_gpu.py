"""``python -m bench.gpu``: its tasks run, on the processor by Triton's interpreter, and no failure stops the others."""

import json
import os
import sys
import time
from importlib import import_module

import numpy as np
import pytest
import torch

from bench.gpu import __main__ as command
from bench.gpu import files, targets, tasks, worker
from bench.report import render

pytest.importorskip("triton", reason="Triton is not installed: pip install rwpm-fast[gpu]")


def test_tasks_exist():
    for name, task in tasks.TASKS.items():
        assert task.kind in (*tasks.KINDS, "machine")
        module = import_module(f"bench.gpu.{task.module}")
        assert task.function in (module.TIMINGS if task.module == "timings" else vars(module)), name
    assert tasks.select(["tune"]) == ["machine", "tune", "flex-autotuned"][: len(tasks.select(["tune"]))]
    assert set(tasks.select(None)) == set(tasks.TASKS)
    timings = import_module("bench.gpu.timings").TIMINGS
    assert set(timings) == {task.function for task in tasks.TASKS.values() if task.module == "timings"}


def run_tasks(work, *names):
    words = ["--work", work, "--deadline", time.time() + 60, "--dry-run", "--tasks", *names]
    assert worker.main([str(word) for word in words]) == 0
    return [files.read_result(work, name) for name in names]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Results of some tasks of a dry run, and their folder."""
    work = tmp_path_factory.mktemp("work")
    names = ("machine", "contract", "conformance", "uncut-100", "real-0", "profile", "tune")
    return work, dict(zip(names, run_tasks(work, *names), strict=True))


def test_dry_run(done):
    _, made = done
    assert not [name for name, result in made.items() if result is None or "failed" in result]
    assert made["machine"]["machine"]["torch"]
    assert made["contract"]["checks"] and all(check["ok"] for check in made["contract"]["checks"])
    assert "no --conformance folder" in made["conformance"]["skipped"]
    assert "expected 1 files or more, got 0" in made["real-0"]["skipped"]
    (case,) = made["uncut-100"]["record"]["cases"]
    assert [row["matched"] for row in case["rows"] if "skipped" not in row] == [True]
    kernels = {name for walk in made["profile"]["walks"] for name in walk["kernels"]}
    assert {"pack.pack_embeddings", "exact.step", "screen.screen", "sparse.step"} <= kernels
    for tuned in made["tune"]["tuned"]:
        assert len(tuned["variants"]) == 3 and sum(v.get("present", False) for v in tuned["variants"]) == 1
        assert all(v["differs"] < 1e-3 for v in tuned["variants"] if "differs" in v)
    assert {t["kernel"] for t in made["tune"]["tuned"]} == set(import_module("bench.gpu.kernels").SPACES)


def test_dry_run_of_gradients(tmp_path):
    checked, profiled = run_tasks(tmp_path, "gradients", "gradient-profile")
    assert checked["checks"] and all(check["ok"] for check in checked["checks"])
    kernels = {name for timed in profiled["gradients"] for name in timed["kernels"]}
    assert {"gradient.multiply_pairs", "gradient.weigh_pairs", "transpose.spread", "transpose.gather"} <= kernels
    assert any("torch_ms" in timed and timed["differs"] < 0.1 for timed in profiled["gradients"])


def test_real_frames(tmp_path):
    from bench.gpu import context, timings

    file = tmp_path / "map.npz"
    np.savez(file, embedding=np.random.default_rng(0).standard_normal((12, 4, 8)))
    told = context.Context(dry=False, embeddings=(file,), conformance=None, work=tmp_path)
    frames = timings.real(0)(told)
    assert [frame.value_channels for frame in frames] == [256, 100, 19]
    assert all((frame.height, frame.width, frame.channels, frame.name) == (184, 320, 12, "map") for frame in frames)


def test_results_of_other_sources_do_not_count(done, monkeypatch):
    work, _ = done
    assert files.read_result(work, "machine") is not None
    monkeypatch.setattr(files, "sources", lambda: "others")
    assert files.read_result(work, "machine") is None


def test_packed(done, tmp_path):
    work, made = done
    command.pack(tmp_path, work, list(made), dry=True)
    assert len(list(tmp_path.iterdir())) <= 8
    assert set(json.loads((tmp_path / "timings.json").read_text())) == {"uncut-100", "real-0", "profile"}
    text = (tmp_path / "summary.md").read_text()
    assert "- contract: 4 of 4 checks hold" in text or torch.cuda.is_available()
    assert "measured" not in text  # a dry run's figures mean nothing
    assert "must" in command.summary(work, list(made), dry=False)
    assert command.all_passed(work, list(made))
    assert render.main([str(tmp_path / "timings.json"), "--markdown", str(tmp_path / "tables.md")]) == 0


def test_a_launch_with_other_options():
    from bench.gpu.kernels import changed
    from rwpm_fast.ops.gpu.launch import Launch

    launch = changed(Launch("kernel", (8, 2), (1,), {"BM": 128, "BN": 64}), {"BM": 64, "num_warps": 8})
    assert launch == ("kernel", (16, 2), (1,), {"BM": 64, "BN": 64, "num_warps": 8})


FAKE = """
import sys, time, pathlib
sys.path.insert(0, {root!r})
from bench.gpu.files import write_result
work = pathlib.Path({work!r})
(work / "current").write_text("machine")
{body}
"""


def run_worker(work, body, limit=30.0, minutes=1.0, monkeypatch=None):
    code = FAKE.format(root=str(files.ROOT), work=str(work), body=body)
    if monkeypatch:
        monkeypatch.setitem(tasks.TASKS, "machine", tasks.TASKS["machine"]._replace(limit=limit))
    return command.run_worker([sys.executable, "-c", code], dict(os.environ), work, time.time() + 60 * minutes)


@pytest.mark.parametrize(
    ("body", "again", "failed"),
    [
        ("write_result(work, 'machine', {'seconds': 1})", False, None),
        ("write_result(work, 'machine', {'failed': 'x'}); sys.exit(3)", True, "x"),
        ("sys.exit(1)", True, "the process ended with 1"),
        ("import os; os.abort()", True, "the process ended with -6"),
    ],
    ids=["done", "broken device", "exit", "abort"],
)
def test_a_worker_that_ends(tmp_path, body, again, failed):
    assert run_worker(tmp_path, body) is again
    assert files.read_result(tmp_path, "machine").get("failed") == failed


def test_a_worker_that_hangs(tmp_path, monkeypatch):
    assert run_worker(tmp_path, "time.sleep(60)", limit=0.5, monkeypatch=monkeypatch)
    assert "given up after" in files.read_result(tmp_path, "machine")["failed"]


def test_a_worker_that_does_not_begin(tmp_path):
    assert command.run_worker([sys.executable, "-c", "raise SystemExit(1)"], {}, tmp_path, time.time() + 60) is False


def test_no_task_begins_after_the_deadline(tmp_path, capsys):
    words = ["--work", str(tmp_path), "--deadline", str(time.time() - 1), "--dry-run", "--tasks", "machine"]
    assert worker.main(words) == 0
    assert "no time left" in capsys.readouterr().out and files.read_result(tmp_path, "machine") is None


def test_a_failing_task_stops_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(tasks.TASKS, "walks", tasks.Task("correctness", "correctness", "no_such_function"))
    failed, done = run_tasks(tmp_path, "walks", "machine")
    assert failed["failed"].startswith("AttributeError") and "failed" not in done
    assert not command.all_passed(tmp_path, ["walks", "machine"])
    assert "- walks: AttributeError" in command.summary(tmp_path, ["walks", "machine"], dry=False)


def result_of(rows, peak=1e12):
    return {"record": {"cases": [{"case": {"title": "a case"}, "peak_flops": peak, "rows": rows}]}}


def row_of(contender, seconds, **facts):
    return {"contender": contender, "label": contender, "matched": True, "seconds": seconds, **facts}


def test_targets():
    uncut = [
        row_of("exact-triton", 0.15, step_share_of_peak=0.5, peak_bytes=200 * 2**20),
        row_of("exact-triton-graph", 0.14, peak_bytes=None),
        row_of("tolerance-0.001-triton", 0.05, peak_bytes=900 * 2**20),
    ]
    half = [
        row_of("tolerance-0.001-triton", 0.010),
        row_of("dense-released", 0.2),
        row_of("dense-tuned", 0.012),
        {"contender": "knn-torch", "label": "k", "skipped": "too large"},
    ]
    made = {row["text"]: row for row in targets.verdicts({"uncut-256": result_of(uncut), "half-256": result_of(half)})}
    step = made["exact step, N = 58 880, D = C = 256, of the product rate"]
    assert step["value"] == 50 and step["met"] and not step["aim_met"]
    exact = made["184x320 uncut, T = 20, exact, C = 256"]
    assert exact["value"] == pytest.approx(140) and exact["met"] and not exact["aim_met"]
    assert made["memory above inputs, 184x320 uncut, C = 256"]["value"] == 900
    released = made["dense as released (n = 2) over ours uncut, filtered"]
    assert released["value"] == pytest.approx(4) and not released["met"]
    tuned = made["dense tuned over ours, filtered, n = 2"]
    assert tuned["value"] == pytest.approx(1.2) and not tuned["met"]
    assert made["50 nearest over ours, filtered, n = 2"]["value"] is None
    steps = [
        {"kernel": "triton", "times_triton": 1.0},
        {"kernel": "hopper", "times_triton": 1.25},
        {"kernel": "ampere", "reason": "too wide"},
    ]
    made = {row["text"]: row for row in targets.verdicts({"steps": {"rows": steps}})}
    assert made["a step in CUDA C++ over Triton's, its best size"]["value"] == 1.25
    text = targets.markdown({"uncut-256": result_of(uncut)})
    assert text.count("not measured") == len(made) - 4 and "MISSED" not in text


@pytest.mark.slow
def test_the_sanitizer_has_walks_to_check(tmp_path, monkeypatch):
    from bench.gpu import context, sanitizer

    dry = context.Context(dry=True, embeddings=(), conformance=None, work=tmp_path)
    sanitizer.walks(dry)
    monkeypatch.setattr(sanitizer.shutil, "which", lambda name, path=None: None)
    with pytest.raises(context.Skipped, match="compute-sanitizer is not installed"):
        sanitizer.sanitize(dry)


def test_steps_need_a_gpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    (made,) = run_tasks(tmp_path, "steps")
    assert made["skipped"] == "expected tensors on a GPU, got cpu"


def test_bad_arguments(capsys, tmp_path):
    for words in (["--only", "dance"], ["--tasks", "dance"], ["--embeddings", "no.npz"]):
        with pytest.raises(SystemExit):
            command.main(["--out", str(tmp_path), *words])
    assert "no.npz: there is no such file or folder" in capsys.readouterr().err
    assert command.main(["--out", str(tmp_path), "--only", "tune", "--list"]) == 0
    assert capsys.readouterr().out.split()[::2] == ["machine", "tune"]


@pytest.mark.slow
def test_the_whole_command(tmp_path):
    words = ["--out", tmp_path / "out", "--work", tmp_path / "work", "--dry-run", "--minutes", "4"]
    assert command.main([str(word) for word in words]) == 0
    assert (tmp_path / "out" / "summary.md").exists()
