"""Data sets of anomaly segmentation: finding their files in any usual layout, reading their labels, checking them."""

from .benchmarks import BENCHMARKS
from .checking import Check, check
from .dataset import Dataset, folders
from .dataset import open_dataset as open
from .frames import Frame, LabelValues

__all__ = ["BENCHMARKS", "Check", "Dataset", "Frame", "LabelValues", "check", "folders", "open"]
