"""Data sets of anomaly segmentation: find their files in any usual layout, read their labels, check them."""

from .benchmarks import BENCHMARKS
from .checking import Check, check
from .dataset import Dataset, folders, open_dataset
from .frames import Frame, LabelValues
from .score_files import find_score_files

__all__ = [
    "BENCHMARKS",
    "Check",
    "Dataset",
    "Frame",
    "LabelValues",
    "check",
    "find_score_files",
    "folders",
    "open_dataset",
]
