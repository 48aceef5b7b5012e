"""Default settings: the exact walk in the operator, a tolerance in Python and in the commands."""

import argparse
import inspect

import pytest
import torch

import rwpm_fast
import rwpm_fast.numpy
from python_tests.helpers import error_of_largest, manifold, road
from rwpm_fast import reference
from rwpm_fast.cli.options import add_walk_options
from rwpm_fast.deploy.onnx_operator import settings_of
from rwpm_fast.ops.settings import DEFAULTS, OPERATOR_DEFAULTS, command_settings

CERTIFIED = 2 * 20 * 1e-4  # of the walk by default: twice its steps times its tolerance
FUNCTIONS = {
    "walk": rwpm_fast.walk,
    "walk_map": rwpm_fast.walk_map,
    "Walk": rwpm_fast.Walk,
    "walk_sharded": rwpm_fast.walk_sharded,
    "numpy": rwpm_fast.numpy.walk,
}


def sparse_graph(pixels=2000):
    return road(pixels, 32), manifold(pixels, 7, seed=1)


def of_map(x):
    return x.T.unflatten(1, (40, -1))


# What walks [N, D] and [N, C] by default.
WALKS = {
    "walk": rwpm_fast.walk,
    "walk_map": lambda e, v: rwpm_fast.walk_map(of_map(e), of_map(v)).flatten(1).T,
    "Walk": lambda e, v: rwpm_fast.Walk()(of_map(e), of_map(v)).flatten(1).T,
    "numpy": lambda e, v: torch.from_numpy(rwpm_fast.numpy.walk(e.numpy(), v.numpy())),
    "transition": lambda e, v: rwpm_fast.transition(e).walk(v),
}


@pytest.mark.parametrize("overload", ["walk.default", "walk.out", "walk_adjoint.default", "walk_with_info.default"])
def test_the_operator_walks_exactly(overload):
    name, overload = overload.split(".")
    if not hasattr(torch.ops.rwpm, name):
        pytest.skip("only the compiled library has it")
    schema = getattr(getattr(torch.ops.rwpm, name), overload)._schema
    defaults = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    settings = OPERATOR_DEFAULTS.operator_kwargs()
    assert settings["tolerance"] == 0
    assert {name: defaults[name] for name in settings} == settings
    assert settings_of({}) == OPERATOR_DEFAULTS  # a node of ONNX that says nothing


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_a_tolerance(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    wanted = DEFAULTS.operator_kwargs()
    assert wanted == {**OPERATOR_DEFAULTS.operator_kwargs(), "tolerance": 1e-4}
    assert {setting: parameters[setting].default for setting in wanted} == wanted


def test_a_graph_has_that_tolerance():
    assert inspect.signature(rwpm_fast.transition).parameters["tolerance"].default == DEFAULTS.tolerance


def test_commands_walk_as_python_does():
    parser = argparse.ArgumentParser()
    add_walk_options(parser)
    assert command_settings({}) == rwpm_fast.Walk().settings == DEFAULTS
    assert "mass that a row may drop, 0: exact (default: 0.0001)" in " ".join(parser.format_help().split())


@pytest.mark.parametrize("name", WALKS)
def test_default_walk_is_within_its_certificate(name):
    e, v = sparse_graph()
    assert rwpm_fast.walk(e, v, return_info=True)[1].path == "sparse"
    exact = rwpm_fast.walk(e, v, tolerance=0)
    got = WALKS[name](e, v)
    assert not torch.equal(got, exact)
    expected = reference.walk(e.double(), v.double())
    assert error_of_largest(got, expected, v) <= CERTIFIED
    assert error_of_largest(exact, expected, v) <= 1e-5


def test_calls_of_the_operator_are_exact():
    e, v = sparse_graph()
    exact = rwpm_fast.walk(e, v, tolerance=0)
    assert torch.equal(torch.ops.rwpm.walk(e, v), exact)
    assert torch.equal(torch.ops.rwpm.walk.out(e, v, out=torch.empty_like(v)), exact)


def test_the_gradient_is_that_of_the_walk_that_was_run():
    e, v = sparse_graph()
    mask = torch.arange(len(e)) % 7 > 0

    def gradient(walk, **settings):
        values = v.clone().requires_grad_()
        return torch.autograd.grad(walk(e, values, mask=mask, **settings), values, grad_outputs=v)[0]

    assert torch.equal(gradient(rwpm_fast.walk), gradient(torch.ops.rwpm.walk, tolerance=1e-4))
    assert torch.equal(gradient(rwpm_fast.walk, tolerance=0), gradient(torch.ops.rwpm.walk))
    assert not torch.equal(gradient(rwpm_fast.walk), gradient(torch.ops.rwpm.walk))


def half_of_a_graph(e, v):
    return e[:511], v[:511]


def double(e, v):
    return e.double(), v.double()


def dense_graph(e, v):
    return 1 + manifold(2000, 8) / 100, v  # all alike


@pytest.mark.parametrize("make", [half_of_a_graph, double, dense_graph], ids=["few pixels", "float64", "dense"])
def test_what_has_no_sparse_matrix_walks_exactly(make):
    e, v = make(*sparse_graph())
    assert torch.equal(rwpm_fast.walk(e, v), rwpm_fast.walk(e, v, tolerance=0))


def test_plain_torch_walks_exactly():
    e, v = (x[:700] for x in sparse_graph())
    assert torch.equal(rwpm_fast.walk(e, v, backend="torch"), rwpm_fast.walk(e, v, backend="torch", tolerance=0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_in_batches_with_masks(dtype):
    e, v = (torch.stack([x, x.flip(0)]).to(dtype) for x in sparse_graph(1200))
    mask = torch.arange(2400).view(2, 1200) % 5 > 0
    got, infos = rwpm_fast.walk(e, v, mask=mask, return_info=True)
    assert {info.path for info in infos} == {"sparse"}
    expected = reference.walk(e.double(), v.double(), mask=mask)
    assert error_of_largest(got, expected, v) <= CERTIFIED + torch.finfo(dtype).eps


def test_compilers_keep_the_tolerance():
    e, v = sparse_graph(1200)
    wanted = rwpm_fast.walk(e, v)
    assert not torch.equal(wanted, rwpm_fast.walk(e, v, tolerance=0))
    compiled = torch.compile(lambda e, v: rwpm_fast.walk(e, v), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(e, v), wanted)
    maps = of_map(e)[None], of_map(v)[None]
    exported = torch.export.export(rwpm_fast.Walk(), maps)
    assert torch.equal(exported.module()(*maps), rwpm_fast.walk_map(*maps))
    assert rwpm_fast.walk(e.to("meta"), v.to("meta")).shape == v.shape
