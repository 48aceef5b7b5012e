"""Photos with labels of all three kinds, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from python_tests.synboost.test_pipeline import random_photo
from rwpm_fast import data
from rwpm_fast.data import Dataset

SIZE = (40, 72)


def write_photos(photos: Path, labels: Path, names: list[str], label_suffix: str = "", anomaly: int = 1) -> None:
    """Write photos of noise, each with a rectangle of anomalies at a place of its own, and void at the bottom."""
    photos.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        truth = np.zeros(SIZE, np.uint8)
        truth[10:20, 8 * index : 8 * index + 20], truth[-4:] = anomaly, 255
        Image.fromarray(random_photo(*SIZE, seed=index)).save(photos / f"{name}.png")
        Image.fromarray(truth).save(labels / f"{name}{label_suffix}.png")


def labeled_photos(folder: Path, count: int) -> Dataset:
    """Write so many photos below a folder, and open them."""
    write_photos(folder / "images", folder / "labels", [str(index) for index in range(count)])
    return data.folders(folder / "images", folder / "labels")
