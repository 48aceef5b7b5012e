"""Options as arguments again: parsing them gives the same options."""

import argparse
from pathlib import Path

import pytest

from rwpm_fast.io.arguments import non_default_args


def add_arguments(parser):
    parser.add_argument("method", nargs="?")
    parser.add_argument("--walk-values", default="auto")
    parser.add_argument("--no-walk-padding", dest="walk_padding", action="store_false")
    parser.add_argument("--no-panel", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--value-channels", type=int, nargs="+", default=[19])
    parser.add_argument("--components", nargs="?", const="")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.set_defaults(extra=None)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", ""),
        ("--walk-values auto --steps 3 --value-channels 19 --out out", "--steps 3"),
        ("--steps 0", "--steps 0"),
        ("--no-walk-padding --no-panel", "--no-walk-padding --no-panel"),
        ("rba --out=a --value-channels 19 256", "rba --value-channels 19 256 --out a"),
        ("--components --walk logits", "--walk-values logits --components"),
        ("--components generic", "--components generic"),
    ],
)
def test_arguments_that_are_not_default(given, wanted):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(given.split())
    args = non_default_args(options, add_arguments, positional=["method"])
    assert args == wanted.split()
    assert parser.parse_args(args) == options


def test_an_option_that_is_set_to_none_is_left_out():
    options = argparse.Namespace(method=None, steps=3, out=None, walk_values="logits")
    assert non_default_args(options, add_arguments) == ["--walk-values", "logits", "--steps", "3"]
