"""Write results in the file formats of the benchmarks' servers and toolkits."""

from .fishyscapes import check_fishyscapes, find_inputs, submit_fishyscapes
from .float16 import Float16Report, Rescaling
from .smiyc import RESCALINGS, Submission, check_smiyc, submit_smiyc

__all__ = [
    "RESCALINGS",
    "Float16Report",
    "Rescaling",
    "Submission",
    "check_fishyscapes",
    "check_smiyc",
    "find_inputs",
    "submit_fishyscapes",
    "submit_smiyc",
]
