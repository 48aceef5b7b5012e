"""Numbers that no float or 64-bit integer holds are refused by the name of the setting, at every entry point."""

from fractions import Fraction

import pytest
import torch

import rwpm_fast
from rwpm_fast import baselines, scores
from rwpm_fast import numpy as rwpm_numpy
from rwpm_fast.checks import check_integers, check_numbers

HUGE = 10**400
E = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
MAP = E.T.reshape(4, 4, 5)


def graph():
    return rwpm_fast.transition(E)


SETTINGS = {
    "walk": (lambda **s: rwpm_fast.walk(E, **s), ("alpha", "steps", "temperature", "tolerance")),
    "walk_map": (lambda **s: rwpm_fast.walk_map(MAP, **s), ("alpha", "steps", "temperature", "tolerance", "parts")),
    "Walk": (rwpm_fast.Walk, ("alpha", "steps", "temperature", "tolerance", "parts")),
    "numpy": (lambda **s: rwpm_numpy.walk(E.numpy(), **s), ("alpha", "steps", "temperature", "tolerance", "threads")),
    "dense": (lambda **s: baselines.dense_walk(E, **s), ("alpha", "steps", "temperature")),
    "chunked": (lambda **s: baselines.chunked_walk(E, **s), ("alpha", "steps", "temperature")),
    "knn": (lambda **s: baselines.knn_walk(E, **s), ("alpha", "steps", "temperature", "neighbors")),
    "KnnWalk": (baselines.KnnWalk, ("alpha", "steps", "temperature", "parts")),
    "transition": (lambda **s: rwpm_fast.transition(E, **s), ("temperature", "tolerance", "shape")),
    "graph.walk": (lambda **s: graph().walk(E, **s), ("alpha", "steps")),
    "graph.solve": (lambda **s: graph().solve(E, **s), ("alpha", "rtol", "max_iterations")),
    "graph.error_bound": (lambda **s: graph().error_bound(**s), ("alpha", "steps")),
    "blur": (lambda **s: scores.gaussian_blur(MAP, **s), ("sigma", "kernel_size")),
    "stuff": (lambda **s: scores.confident_stuff_maps(torch.ones(3, 20), torch.ones(3, 4, 5), **s), ("threshold",)),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("call", "name"),
    [(call, name) for call, names in SETTINGS.values() for name in names],
    ids=[f"{entry} {name}" for entry, (_, names) in SETTINGS.items() for name in names],
)
def test_huge_settings_are_refused_by_name(call, name, sign):
    value = (sign * HUGE, 1) if name == "shape" else sign * HUGE
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call(**{name: value})


def test_limits():
    check_numbers(a=1.5, b=2**1023, c=-(2**1023), d=Fraction(1, 3), e=float("inf"))
    check_integers(a=2**63 - 1, b=-(2**63 - 1), c=True)
    for value in (2**1024, -(2**1024), Fraction(HUGE)):
        with pytest.raises(ValueError, match="a: expected a number within the range of a float"):
            check_numbers(a=value)
    with pytest.raises(ValueError, match="a: expected an integer of at most 64 bits"):
        check_integers(a=2**63)
    with pytest.raises(TypeError, match="a: expected a number, got str"):
        check_numbers(a="1")
    with pytest.raises(TypeError, match="a: expected an integer, got float"):
        check_integers(a=1.0)
