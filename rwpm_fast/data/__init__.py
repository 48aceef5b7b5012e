"""Data sets of anomaly segmentation: find their files in any usual layout, read their labels, check them."""

from .benchmarks import BENCHMARKS
from .checking import Check, check
from .dataset import Dataset, folders, open_dataset
from .frames import Frame, LabelValues

__all__ = ["BENCHMARKS", "Check", "Dataset", "Frame", "LabelValues", "check", "folders", "open_dataset"]
