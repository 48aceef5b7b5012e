"""The walk against golden files: what its definition gives in float64, and what the released code gave."""

import json
import re

import pytest
import torch

import rwpm_fast
from python_tests.conformance import golden, load, network_input
from python_tests.helpers import relative_error
from rwpm_fast import baselines, reference


def numpy_walk(embeddings, values, *, mask, **settings):
    arrays = (embeddings.numpy(), values.numpy(), mask.numpy())
    return torch.from_numpy(rwpm_fast.numpy.walk(*arrays[:2], mask=arrays[2], tolerance=0, **settings))


def compiled_walk(embeddings, values, *, mask, **settings):
    return rwpm_fast.walk(embeddings, values, mask=mask, tolerance=0, backend="cpu", **settings)


def torch_walk(embeddings, values, *, mask, **settings):
    return rwpm_fast.walk(embeddings, values, mask=mask, tolerance=0, backend="torch", **settings)


def triton_walk(embeddings, values, *, mask, tolerance=0.0, **settings):
    pytest.importorskip("triton")
    there = "cuda" if torch.cuda.is_available() else "cpu"
    e, v, m = (t.to(there) for t in (embeddings, values, mask))
    return rwpm_fast.walk(e, v, mask=m, tolerance=tolerance, backend="triton", **settings).cpu()


def check_walk(path, walk, dtype):
    case = load(path)
    meta = json.loads(str(case["meta"]))
    settings = {name: meta[name] for name in ("alpha", "steps", "temperature")}
    e, v = (torch.from_numpy(case[name]).to(dtype) for name in ("embeddings", "values"))
    mask, expected = torch.from_numpy(case["mask"]), torch.from_numpy(case["expected"])
    before = v.clone()
    got = walk(e, v, mask=mask, **settings)
    assert got.shape == v.shape
    assert got.dtype == dtype

    out = ~reference.valid_pixels(e, v, mask)
    bits = torch.int32 if dtype == torch.float32 else torch.int64
    assert torch.equal(got[out].view(bits), before[out].view(bits))

    finite = expected.isfinite().all(-1)
    # At a temperature of 1e-4 the logit is 1e4 times the cosine, so that its float32 rounding shows.
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4 if meta["temperature"] <= 1e-4 else 1e-5
    assert relative_error(got[finite], expected[finite]) <= tolerance


@golden("walk", own=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("walk", [reference.walk, torch_walk], ids=["reference", "torch"])
def test_conformance_plain_torch(path, walk, dtype):
    check_walk(path, walk, dtype)


@golden("walk", own=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("walk", [compiled_walk, numpy_walk], ids=["op", "numpy"])
def test_conformance_compiled(path, walk, dtype, isa):
    check_walk(path, walk, dtype)


@golden("walk", own=True)
def test_conformance_triton(path):
    check_walk(path, triton_walk, torch.float32)


@golden("walk")
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_conformance_triton_within_the_certificate(path, tolerance):
    case = load(path)
    meta = json.loads(str(case["meta"]))
    settings = {name: meta[name] for name in ("alpha", "steps", "temperature")}
    e, v, mask, expected = (torch.from_numpy(case[name]) for name in ("embeddings", "values", "mask", "expected"))
    finite = expected.isfinite().all(-1)
    got = triton_walk(e, v, mask=mask, **settings, tolerance=tolerance)
    if not finite.any():
        return
    rounding = 1e-5 * max(1.0, 0.01 / meta["temperature"])
    error = (got[finite] - expected[finite]).abs().max().item()
    assert error <= (2 * meta["steps"] * tolerance + rounding) * v[finite].abs().max().item()


@golden("walk")
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_conformance_within_the_certificate(path, isa, tolerance):
    case = load(path)
    meta = json.loads(str(case["meta"]))
    settings = {name: meta[name] for name in ("alpha", "steps")}
    e, v, mask, expected = (torch.from_numpy(case[name]) for name in ("embeddings", "values", "mask", "expected"))
    finite = expected.isfinite().all(-1)
    graph_settings = {"temperature": meta["temperature"], "tolerance": tolerance}
    graph = rwpm_fast.transition(e, mask=mask & v.isfinite().all(-1), **graph_settings)
    results, infos = [], []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        walk = {"mask": mask, **settings, **graph_settings, "backend": "cpu", "return_info": True}
        result, info = rwpm_fast.walk(e, v, **walk)
        infos.append(info)
        results.append((result, graph.walk(v, **settings)))
    torch.set_num_threads(before)

    def bits(x):
        return x.view(torch.int32)

    for one, two in zip(*results, strict=True):
        assert torch.equal(bits(one), bits(two))
    # A walk of few steps streams graphs that pay for many.
    if infos[0].path in (graph.path, "none"):
        assert torch.equal(*map(bits, results[0]))
    if not finite.any():
        return
    largest = v[finite].abs().max().item()
    # A logit is the cosine over the temperature, and its rounding is the weight's relative one.
    rounding = 1e-5 * max(1.0, 0.01 / meta["temperature"])
    for got, dropped in zip(results[0], (infos[0].dropped_mass, graph.dropped_mass.max()), strict=True):
        assert dropped <= tolerance
        error = (got[finite] - expected[finite]).abs().max().item()
        assert error <= (2 * meta["steps"] * dropped + rounding) * largest
    assert error <= (graph.error_bound(**settings) + rounding) * largest


def outputs(case):
    """(name, in float64, n, TT, alpha, tau) of every stored output; of its channels every 8th is kept, or 32nd."""
    for name in case:
        found = re.fullmatch(r"out(64)?_n(\d+)_TT(\d+)(?:_alpha([\d.]+)_tau([\d.]+))?", name)
        if found:
            double, n, released_steps, alpha, tau = found.groups()
            yield name, bool(double), int(n), int(released_steps), float(alpha or 0.99), float(tau or 0.01)


def cropped(x, n):  # the released code drops what n does not divide
    return x[..., : x.shape[-2] // n * n, : x.shape[-1] // n * n]


def check_released(got, wanted, double, kept):
    assert got.shape == wanted.shape, kept
    if double:
        error = (got - wanted).norm() / wanted.norm()
        assert error <= 1e-9, kept
    else:
        assert (got - wanted).abs().max() <= 1e-4, kept


@golden("rwpm_released")
@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_conformance_released_maps(path, backend):
    case = load(path)
    x = network_input(path)
    names = list(outputs(case))
    assert names
    for name, double, n, released_steps, alpha, tau in names:
        embedding_map = cropped(x.double() if double else x, n)
        settings = {"alpha": alpha, "temperature": tau, "steps": released_steps + 1, "backend": backend}
        settings["tolerance"] = 0
        kept = slice(None, None, 32 if double else 8)
        if backend == "cpu":
            got = rwpm_fast.walk_map(embedding_map, parts=n, **settings)[:, kept]
        else:  # channels walk apart, and walking all would take long
            got = rwpm_fast.walk_map(embedding_map, embedding_map[:, kept], parts=n, **settings)
        check_released(got, torch.from_numpy(case[name]), double, name)


@golden("rwpm_released")
def test_conformance_released_baseline(path):
    case = load(path)
    x = network_input(path)
    for name, double, n, released_steps, alpha, tau in outputs(case):
        embedding_map = cropped(x.double() if double else x, n)
        value_map = embedding_map[:, :: 32 if double else 8]
        got = torch.empty_like(value_map)
        height, width = embedding_map.shape[-2] // n, embedding_map.shape[-1] // n
        for top in range(0, embedding_map.shape[-2], height):
            for left in range(0, embedding_map.shape[-1], width):
                at = (0, slice(None), slice(top, top + height), slice(left, left + width))
                pixels, values = (x[at].flatten(1).T for x in (embedding_map, value_map))
                settings = {"alpha": alpha, "temperature": tau, "steps": released_steps}
                walked = baselines.dense_walk(pixels, values, released=True, **settings)
                got[at] = walked.T.unflatten(1, (height, width))
        check_released(got, torch.from_numpy(case[name]), double, name)


@golden("rwpm_released")
def test_conformance_released_transition(path):
    case = load(path)
    x = network_input(path)
    height, width = x.shape[-2] // 4, x.shape[-1] // 4
    pixels = x[0, :, :height, :width].flatten(1).T
    # Probabilities are at most 1; the released code's float32 logits are good to about 1e-5.
    torch.testing.assert_close(
        reference.transition(pixels), torch.from_numpy(case["S_first_submap_n4"]), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        reference.transition(pixels.double()), torch.from_numpy(case["S64_first_submap_n4"]), rtol=1e-9, atol=1e-12
    )
