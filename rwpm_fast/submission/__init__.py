"""Write results in the file formats of the benchmarks' servers and toolkits."""

from .fishyscapes import find_inputs, submit_fishyscapes
from .float16 import Float16Report, Rescaling
from .smiyc import RESCALINGS, Submission, submit_smiyc

__all__ = [
    "RESCALINGS",
    "Float16Report",
    "Rescaling",
    "Submission",
    "find_inputs",
    "submit_fishyscapes",
    "submit_smiyc",
]
