"""Spread and margin against their definitions, pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from python_tests.helpers import manifold
from rwpm_fast.metrics import class_tightness


def definition(embeddings, classes):
    """Spread and margin of each class, as the docstring words them."""
    unit = {}
    for label in sorted(set(classes) - {-1}):
        rows = [e / (np.linalg.norm(e) or 1) for e, c in zip(embeddings, classes, strict=True) if c == label]
        mean = sum(rows) / len(rows)
        unit[label] = rows, mean / np.linalg.norm(mean)
    found = {}
    for label, (rows, own) in unit.items():
        others = [direction for other, (_, direction) in unit.items() if other != label]
        spread = np.mean([1 - row @ own for row in rows])
        margin = np.mean([row @ own - max(row @ other for other in others) for row in rows]) if others else math.nan
        found[label] = spread, margin
    return found


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_spread_and_margin_are_those_of_the_definition(dtype):
    embeddings = manifold(60, 7, noise=0.5, dtype=dtype)
    embeddings[4] = 0
    classes = torch.randint(-1, 5, (60,), generator=torch.Generator().manual_seed(1))
    classes[classes == 2] = 3  # a class without pixels
    got = class_tightness(embeddings, classes)
    assert got.spread.shape == got.margin.shape == (5,) and got.spread.dtype == torch.float64
    wanted = definition(embeddings.double().numpy(), classes.tolist())
    assert sorted(wanted) == [0, 1, 3, 4]
    for label, numbers in wanted.items():
        assert (float(got.spread[label]), float(got.margin[label])) == pytest.approx(numbers, abs=1e-12)
    assert got.spread[2].isnan() and got.margin[2].isnan()
    assert got.mean() == pytest.approx(np.mean(list(wanted.values()), axis=0).tolist())


def test_what_the_numbers_mean():
    directions = torch.eye(4)[torch.tensor([0, 0, 1, 1])]
    classes = torch.tensor([0, 0, 1, 1])
    apart = class_tightness(directions * torch.tensor([[1.0], [5.0], [2.0], [0.1]]), classes)
    assert apart.spread.tolist() == pytest.approx([0, 0]) and apart.margin.tolist() == pytest.approx([1, 1])
    opposite = class_tightness(torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), classes)
    assert opposite.margin.tolist() == [2, 2]
    swapped = class_tightness(directions, torch.tensor([0, 1, 0, 1]))  # both classes have the same pixels
    assert swapped.margin.tolist() == pytest.approx([0, 0])
    alone = class_tightness(directions, torch.zeros(4, dtype=torch.int64))
    assert float(alone.spread) == pytest.approx(1 - math.sqrt(0.5)) and alone.margin.isnan()


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((4, 2), [0, 1], r"classes: expected \[N\] for embeddings \[N, D\], got \[2\] for \[4, 2\]"),
        ((4,), [0, 1, 1, 1], r"got \[4\] for \[4\]"),
        ((2, 3), [-1, -1], r"classes: expected a pixel of class 0 or above, got none among 2"),
        ((0, 3), [], r"got none among 0"),
    ],
)
def test_what_cannot_be_measured(shape, classes, message):
    with pytest.raises(ValueError, match=message):
        class_tightness(torch.ones(shape), torch.tensor(classes, dtype=torch.int64))
