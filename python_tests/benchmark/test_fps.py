"""The FPS benchmark: frames, their float64, who walks, and what a record and a command say of it."""

import json
import pickle
from contextlib import suppress

import numpy as np
import pytest
import torch

from bench.report import render
from rwpm_fast import cli, reference
from rwpm_fast.benchmark import Limits, Unavailable, compare, fps, succeeded
from rwpm_fast.benchmark import machine as machine_of
from rwpm_fast.benchmark.cases import smooth_manifolds
from rwpm_fast.benchmark.fps import Device, Frame, walkers
from rwpm_fast.benchmark.fps.nearest import topk
from rwpm_fast.benchmark.fps.truth import CHANNELS, truth
from rwpm_fast.benchmark.libraries import without_own
from rwpm_fast.benchmark.reference import NEAREST, RELEASED, WALK

UNCUT = Frame(8, 13, channels=24, value_channels=5, steps=3, dtype="float32")
CUT = Frame(20, 24, channels=24, value_channels=20, steps=3, parts=2)
COMPILED = ("flex", "flex-autotuned", "keops")  # for each size anew, in many seconds
QUICK = Limits(rounds=2, measure_memory=False)
STAGE = Device("cpu")


@pytest.fixture(autouse=True)
def quick_machine(monkeypatch):
    monkeypatch.setattr(machine_of, "peak_flops", lambda: 1e9)
    monkeypatch.setattr(machine_of, "copy_bytes", lambda: 1e9)


def every(frame):
    return [w for w in walkers(frame, [1e-3]) if w.key not in COMPILED]


def of(key, frame=CUT):
    return next(w for w in walkers(frame, [1e-3]) if w.key == key)


def by_hand(frame, operator):
    """[B, P, C] in float64, sub-map by sub-map cut here."""
    problem = frame.problem()
    settings = {**problem.settings, "steps": frame.steps + (operator == RELEASED)}
    e, v = problem.embeddings.double(), problem.values.double()
    if operator != NEAREST:
        return reference.walk(e, v, **settings)
    walked = []
    for one, start in zip(e, v, strict=True):
        S = reference.transition(one, temperature=frame.temperature)
        S = S * torch.zeros_like(S).scatter_(1, S.topk(50, -1).indices, 1)
        S, m = S / S.sum(-1, keepdim=True), start
        for _ in range(frame.steps):
            m = frame.alpha * S @ m + (1 - frame.alpha) * start
        walked.append(m)
    return torch.stack(walked)


def test_frames_are_cut_into_sub_maps():
    whole, cut = Frame(4, 6, channels=3).problem(), Frame(4, 6, channels=3, parts=2).problem()
    assert cut.embeddings.shape == (4, 6, 3) and cut.values.shape == (4, 6, 19)
    assert cut.embeddings.dtype == cut.values.dtype == torch.float16
    map_ = whole.embeddings.view(4, 6, 3)
    assert torch.equal(cut.embeddings[1].view(2, 3, 3), map_[:2, 3:])
    assert torch.equal(cut.embeddings[2].view(2, 3, 3), map_[2:, :3])
    assert (cut.case.part_pixels, cut.case.pairs, whole.case.pairs) == (6, 24 * 6, 24 * 24)


def test_maps_and_sub_maps_are_each_other():
    problem = CUT.problem()
    map_ = CUT.as_map(problem.embeddings)
    assert map_.shape == (1, 24, 20, 24) and map_.is_contiguous()
    assert torch.equal(map_[0, :, 10:, :12].flatten(1).T, problem.embeddings[2])
    assert torch.equal(CUT.of_map(map_), problem.embeddings)


def test_frames_of_files_are_enlarged(tmp_path):
    np.savez(tmp_path / "real.npz", embedding=np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float16))
    frame = Frame.of_file(tmp_path / "real.npz", (8, 10), parts=2, dtype="float32")
    assert frame.problem().embeddings.shape == (4, 20, 6) and frame.title().startswith("real, 8x10")


def test_paper_frames():
    frames = list(fps.paper_frames(device="cpu"))
    assert len(frames) == len(set(frames)) == 2 * (4 * 3 + 2 * 3 + 2)
    titles = [frame.title() for frame in frames]
    assert sum("184x320: N = 58880, D = 256, C = 256, T = 20" in title for title in titles) == 4
    assert any("512x1024: N = 524288, D = 256, C = 19, T = 5" in title and "uncut" in title for title in titles)


def test_small_frames_keep_all_but_size():
    small = Frame(184, 320, parts=8, value_channels=100).small()
    assert (small.height, small.width, small.steps, small.parts) == (32, 32, 1, 8)
    assert (small.channels, small.value_channels, small.dtype) == (256, 100, "float16")
    assert Frame(184, 320, device="cuda").small().pixels == 128 * 128
    assert Frame(1, 2).small().pixels == 2


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"parts": 3}, "parts: expected a divisor of 8 and 6, got 3"),
        ({"parts": 0}, "parts: expected 1 or more, got 0"),
        ({"height": 2, "width": 2, "parts": 2}, "parts: expected sub-maps of 2 or more pixels, got 1"),
        ({"dtype": "int8"}, "dtype: expected one of float16, float32, got 'int8'"),
    ],
    ids=str,
)
def test_frames_that_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Frame(**{"height": 8, "width": 6} | settings)


def test_smooth_manifolds_are_smooth():
    e = smooth_manifolds(40, 60, 32).view(40, 60, 32)
    assert torch.equal(e, smooth_manifolds(40, 60, 32).view(40, 60, 32))
    q = torch.nn.functional.normalize(e, dim=-1)
    beside = (q[:, 1:] * q[:, :-1]).sum(-1).median()
    apart = (q[:, 30:] * q[:, :30]).sum(-1).median()
    assert beside > 0.8 and apart < 0.5
    assert smooth_manifolds(1, 9, 3).shape == (9, 3)


@pytest.mark.parametrize("frame", [UNCUT, CUT], ids=["uncut, all channels", "cut, sums of channels"])
@pytest.mark.parametrize("operator", [WALK, RELEASED, NEAREST])
def test_truth_is_the_definition(frame, operator, tmp_path):
    wanted = by_hand(frame, operator)
    for memory in (2**30, 1):
        found = truth(frame.problem(), operator, memory=memory, cache=tmp_path)
        assert found.error(wanted) <= 1e-12
        assert found.values.shape == (*wanted.shape[:2], min(wanted.shape[2], CHANNELS))
    assert found.error(frame.as_map(wanted)) <= 1e-12
    assert found.error(wanted[:, 1:]) == found.error(frame.as_map(wanted)[0]) == float("inf")
    assert len(list(tmp_path.iterdir())) == (1 if operator == NEAREST else 2)


def test_truth_tells_the_size_of_an_error_of_any_channel():
    wanted = by_hand(CUT, WALK)
    found = truth(CUT.problem(), WALK, memory=2**30)
    noise = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise *= 1e-3 * wanted.norm() / noise.norm()
    assert found.error(wanted + noise) == pytest.approx(1e-3, rel=0.1)
    for channel in range(20):
        wrong = wanted.clone()
        wrong[..., channel] += 1
        assert found.error(wrong) > 1e-2
    assert not found.error(torch.full_like(wanted, torch.nan)) <= 1e9


@pytest.mark.parametrize("frame", [UNCUT, CUT], ids=["uncut float32", "cut float16"])
def test_everybody_does_what_is_said(frame):
    served = []
    for walker in every(frame):
        with suppress(Unavailable):
            got = walker.prepare(frame.problem())()
            served.append(walker.key)
        if walker.key not in served:
            continue
        got = got if got.dim() == 3 else frame.of_map(got)
        wanted = by_hand(frame, walker.operator)
        assert got.shape == wanted.shape
        assert (got.double() - wanted).norm() / wanted.norm() <= walker.bound(frame), walker.key
    assert {"exact-cpu", "dense-released", "dense-tuned", "chunked", "knn-torch"} <= set(served)


def test_keys_and_estimates():
    large = Frame(184, 320, value_channels=256)
    who = walkers(UNCUT, [1e-3, 1e-4]) + fps.peers()
    assert len({w.key for w in who}) == len({w.label for w in who}) == len(walkers(UNCUT, [1e-3, 1e-4]))
    for walker in who:
        assert walker.work(large) > walker.work(UNCUT) > 0
        assert walker.memory(large) > walker.memory(UNCUT) > 0
        pickle.dumps(walker)
    dense = of("dense-released")
    assert dense.memory(large) >= 3 * 4 * large.pixels**2


def test_bounds():
    exact, tolerant, dense, nearest = (
        of(k, CUT) for k in ("exact-cpu", "tolerance-0.001-cpu", "dense-tuned", "knn-torch")
    )
    assert (exact.bound(UNCUT), exact.bound(CUT)) == (1e-5, 1e-3)
    assert (tolerant.bound(UNCUT), tolerant.bound(CUT)) == (1e-3, 1e-3)
    assert dense.bound(CUT) == pytest.approx(1e-2) and nearest.bound(CUT) == 1e-2


@pytest.fixture
def compared():
    who = [of(k) for k in ("exact-cpu", "tolerance-0.001-cpu", "dense-released", "dense-tuned")]
    return compare(CUT, who, QUICK, stage=STAGE)


def test_rows(compared):
    exact, tolerant, released, tuned = compared["rows"]
    assert all(row["matched"] for row in compared["rows"])
    assert released["speedup"] == 1.0 and released["operator"] == RELEASED
    assert tuned["speedup"] == released["seconds"] / tuned["seconds"]
    work = 2 * CUT.pairs * (24 + 20) * 3
    assert exact["share_of_peak"] == pytest.approx(work / exact["seconds"] / 1e9)
    assert exact["pairs"] == CUT.pairs and exact["step_seconds"]
    assert 0 <= tolerant["dropped"] <= 1e-3 and tolerant["path"]


def test_who_drops_more_than_its_tolerance_gets_no_speed():
    def dropping(problem):
        return {"dropped": 2e-3, "pairs": None}

    right = of("tolerance-0.001-cpu")
    wrong = type(right)(**{**vars(right), "facts": dropping})
    row = compare(CUT, [wrong], QUICK, stage=STAGE)["rows"][0]
    assert row["error"] <= row["bound"] and row["matched"] is False and "seconds" not in row


def test_fewest_bytes_of_a_step():
    assert STAGE.step_bytes(CUT, 1000) == 2 * (1000 + 3 * 480 * 20)
    assert STAGE.step_bytes(UNCUT, 1000) == 4 * (1000 + 3 * 104 * 5)


def test_record_and_table(compared):
    made = fps.record([compared], "rwpm-fast bench fps", QUICK, STAGE, network_ms=90)
    again = json.loads(json.dumps(made))
    assert again == made and succeeded(made)
    text = fps.markdown(again)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 and len({line.count("|") for line in lines}) == 1
    assert "T + 1" in text and "90 ms a frame" in text and "published" not in text
    seconds = made["cases"][0]["rows"][3]["seconds"]
    assert f"| {1 / (seconds + 0.09):.4g} |" in lines[-1]


def published_case():
    return {"height": 184, "width": 320, "value_channels": 256, "steps": 20, "alpha": 0.99, "parts": 2}


def test_published_figures_stand_beside_their_own_case_only(compared):
    found = fps.published(published_case())
    assert found.with_network == 2.04 and 1 / found.alone == pytest.approx(0.40, abs=0.005)
    for other in ({"steps": 5}, {"parts": 3}, {"width": 512}, {"value_channels": 19}):
        assert fps.published(published_case() | other) is None
    made = fps.record([compared | {"case": compared["case"] | published_case()}], "test", QUICK, STAGE)
    (line,) = [line for line in fps.markdown(made).splitlines() if line.startswith("| published")]
    assert "| 400 |" in line and "| 2.04 |" in line and "A6000" in line


def test_a_gpu_is_named_in_table_and_chart(compared):
    made = fps.record([compared], "test", QUICK, STAGE)
    made["machine"]["gpu"] = {"name": "Some GPU", "driver": "1.2", "cuda": "13.0", "triton": "3.6"}
    assert "Some GPU, driver 1.2, CUDA 13.0, Triton 3.6, torch" in fps.markdown(made)
    assert render.name_of(made["machine"]) == "Some GPU"


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


def test_chart_mixes_no_kinds(capsys, tmp_path, compared):
    paths = []
    for kind in ("fps", "walks"):
        made = fps.record([compared], "test", QUICK, STAGE)
        made["kind"] = kind
        paths.append(str(tmp_path / f"{kind}.json"))
        (tmp_path / f"{kind}.json").write_text(json.dumps(made))
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


def test_the_pixel_itself_is_no_neighbor():
    q = torch.nn.functional.normalize(torch.randn(70, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    q[:40] = q[0]  # of so many equals the pixel itself may not be found
    found = (q @ q.T).topk(31, dim=-1)
    for cosines, columns in (without_own(*found), topk(torch.float32, q, 30)):
        assert cosines.shape == columns.shape == (70, 30)
        assert not (columns == torch.arange(70)[:, None]).any()
        assert all(len(set(row.tolist())) == 30 for row in columns)
