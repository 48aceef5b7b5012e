"""The files of the golden set are what its script writes."""

import json

import numpy as np
import pytest

from python_tests.golden.generate import FOLDER, cases

CASES = {case.name: case for case in cases()}


def test_there_is_a_file_for_every_case():
    assert {path.stem for path in (FOLDER / "walk").glob("*.npz")} == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_file_is_what_the_script_writes(name):
    made = CASES[name].arrays()
    with np.load(FOLDER / "walk" / f"{name}.npz") as file:
        assert set(file.files) == made.keys()
        for array in ("embeddings", "values", "mask"):
            np.testing.assert_array_equal(file[array], made[array])
        # Sums depend on the order in which NumPy adds.
        np.testing.assert_allclose(file["expected"], made["expected"], rtol=1e-9, atol=1e-12)
        assert json.loads(str(file["meta"])) == json.loads(str(made["meta"]))
