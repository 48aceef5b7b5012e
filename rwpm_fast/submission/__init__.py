"""Results in the file layouts of the benchmarks' servers and toolkits."""

from .fishyscapes import find_inputs, submit_fishyscapes
from .float16 import HalfReport, Rescaling
from .smiyc import RESCALINGS, Submission, submit_smiyc

__all__ = [
    "RESCALINGS",
    "HalfReport",
    "Rescaling",
    "Submission",
    "find_inputs",
    "submit_fishyscapes",
    "submit_smiyc",
]
