import numpy as np
import pytest
import torch

import rwpm_fast
from python_tests.helpers import manifold
from rwpm_fast import numpy as walks

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def readable(part):
    """Ids of error cases: the argument that is wrong, the error, and what its message says of what came."""
    if isinstance(part, dict):
        return next(iter(part))
    return part.__name__ if isinstance(part, type) else part.split("got ")[-1].replace("\\", "")


@pytest.fixture
def pixels():
    return manifold(2, 150, 12).numpy(), manifold(2, 150, 5, seed=1).numpy()


@DTYPES
@pytest.mark.parametrize("adorned", [False, True], ids=["plain", "masked"])
def test_same_bits_as_the_operator(pixels, isa, adorned, dtype):
    e, v = (x.astype(dtype) for x in pixels)
    mask = None
    if adorned:
        e[0, 3, 1], v[1, 7, 0] = np.nan, np.inf
        mask = np.arange(300).reshape(2, 150) % 4 > 0
    wanted = rwpm_fast.walk(*map(torch.from_numpy, (e, v)), mask=None if mask is None else torch.from_numpy(mask))
    got = walks.walk(e, v, mask=mask)
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, wanted.numpy())
    flat = walks.walk(e[1], v[1], mask=None if mask is None else mask[1])
    np.testing.assert_array_equal(flat, got[1])


def test_values_default_to_the_embeddings(pixels):
    np.testing.assert_array_equal(walks.walk(pixels[0]), walks.walk(pixels[0], pixels[0]))


def test_settings_reach_the_kernel(pixels):
    settings = {"alpha": 0.5, "steps": 3, "temperature": 0.2, "tolerance": 1e-3}
    wanted = rwpm_fast.walk(*map(torch.from_numpy, pixels), **settings).numpy()
    np.testing.assert_array_equal(walks.walk(*pixels, **settings), wanted)


@pytest.mark.parametrize("of_values", ["float16", "float32", "float64"])
@pytest.mark.parametrize("of_embeddings", ["float16", "float32", "float64"])
def test_dtypes(pixels, of_embeddings, of_values):
    e, v = pixels[0].astype(of_embeddings), pixels[1].astype(of_values)
    got = walks.walk(e, v)
    assert got.dtype == of_values
    np.testing.assert_array_equal(got, rwpm_fast.walk(torch.from_numpy(e), torch.from_numpy(v)).numpy())


def unaligned(x):
    """A field of packed records: rows lie a number of bytes apart that no element size divides."""
    records = np.zeros(x.shape[:-1], dtype=[("flag", "u1"), ("field", x.dtype, x.shape[-1:])])
    records["field"] = x
    return records["field"]


LAYOUTS = {
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "reversed pixels": lambda x: np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :],
    "reversed channels": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "every other": lambda x: np.repeat(np.repeat(x, 2, -1), 2, -2)[..., ::2, 1::2],
    "Fortran order": np.asfortranarray,
    "unaligned": unaligned,
}


@DTYPES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(pixels, layout, dtype):
    e, v = (x.astype(dtype) for x in pixels)
    mask = np.arange(300).reshape(2, 150) % 4 > 0
    lay = LAYOUTS[layout]
    np.testing.assert_array_equal(lay(e), e)
    np.testing.assert_array_equal(walks.walk(lay(e), lay(v), mask=mask), walks.walk(e, v, mask=mask))
    reversed_mask = np.ascontiguousarray(mask[..., ::-1])[..., ::-1]
    np.testing.assert_array_equal(walks.walk(e, v, mask=reversed_mask), walks.walk(e, v, mask=mask))


def test_broadcast_inputs(pixels):
    e, v = pixels[0][0], pixels[1][0]
    got = walks.walk(np.broadcast_to(e, (3, *e.shape)), np.broadcast_to(v[:, :1], (3, len(v), 4)))
    np.testing.assert_array_equal(got, np.broadcast_to(walks.walk(e, v[:, :1]), got.shape))


@pytest.mark.parametrize("shape", [(0, 4), (0, 5, 4), (2, 0, 4), (5, 0)], ids=str)
def test_empty(shape):
    assert walks.walk(np.zeros(shape, np.float32)).shape == shape


@DTYPES
def test_same_bits_on_any_threads(dtype):
    e = manifold(900, 20).numpy().astype(dtype)
    one = walks.walk(e, steps=3, tolerance=0, threads=1)
    for threads in (1, 2, 3, 7, None):
        np.testing.assert_array_equal(walks.walk(e, steps=3, tolerance=0, threads=threads), one)


FEW_THREADS = """
import resource
import numpy as np
from rwpm_fast import numpy as walks
e = np.random.default_rng(0).standard_normal((100_000, 1)).astype(np.float32)
mask = np.arange(100_000) < 3
wanted = walks.walk(e, mask=mask, threads=1)
# Room for some hundred stacks: the system refuses the rest.
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
try:
    got = walks.walk(e, mask=mask, threads=100_000)
except RuntimeError:
    pass
else:
    assert np.array_equal(got, wanted)
"""


def test_more_threads_than_the_system_gives(run_python):
    """An error or the right result, never the end of the process."""
    run_python(FEW_THREADS)


def test_inputs_are_left_alone(pixels):
    before = [x.copy() for x in pixels]
    for x in pixels:
        x.flags.writeable = False
    walks.walk(*pixels)
    for now, then in zip(pixels, before, strict=True):
        np.testing.assert_array_equal(now, then)


def good():
    return {"embeddings": np.ones((5, 4), "f4"), "values": np.ones((5, 3), "f4"), "mask": np.ones(5, bool)}


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"embeddings": np.ones(5, "f4")}, ValueError, r"embeddings: expected shape \[N, D\] or .* got \[5\]"),
        ({"embeddings": [[1.0]]}, TypeError, "embeddings: expected a numpy.ndarray, got list"),
        ({"values": torch.ones(5, 3)}, TypeError, "values: expected a numpy.ndarray, got Tensor"),
        ({"values": np.ones((6, 3), "f4")}, ValueError, r"values: expected shape \[5, C\].* got \[6, 3\]"),
        ({"embeddings": np.ones((5, 4), "i8")}, TypeError, "embeddings: expected dtype float16, .* got int64"),
        ({"values": np.ones((5, 3), "c8")}, TypeError, "values: expected dtype float16, .* got complex64"),
        ({"values": np.ones((5, 3), ">f4")}, TypeError, "values: expected dtype float16, .* got >f4"),
        ({"mask": np.ones(4, bool)}, ValueError, r"mask: expected shape \[5\].* got \[4\]"),
        ({"mask": np.ones(5, "u1")}, TypeError, "mask: expected dtype bool, got uint8"),
        ({"alpha": 1.5}, ValueError, r"alpha: expected a number in \[0, 1\], got 1.5"),
        ({"alpha": "a"}, TypeError, "alpha: expected a number, got str"),
        ({"steps": 1.5}, TypeError, "steps: expected an integer, got float"),
        ({"steps": -1}, ValueError, "steps: expected 0 or more transitions, got -1"),
        ({"temperature": 0}, ValueError, "temperature: expected a positive finite number, got 0"),
        ({"temperature": np.nan}, ValueError, "temperature: expected a positive finite number, got nan"),
        ({"tolerance": 1}, ValueError, r"tolerance: expected a number in \[0, 1\), got 1"),
        ({"threads": 0}, ValueError, "threads: expected 1 or more, got 0"),
        ({"threads": 1.5}, TypeError, "threads: expected an integer, got float"),
        ({"threads": "2"}, TypeError, "threads: expected an integer, got str"),
    ],
    ids=readable,
)
def test_errors(change, kind, text):
    with pytest.raises(kind, match=f"^{text}"):
        walks.walk(**good() | change)


def test_unknown_instruction_set_is_named(monkeypatch):
    monkeypatch.setenv("RWPM_ISA", "sse9")
    with pytest.raises(ValueError, match=r"RWPM_ISA: expected one that this machine has \(.*baseline\), got 'sse9'"):
        walks.walk(**good())


WORKS = """
import sys
import numpy as np
import rwpm_fast.numpy
assert not hasattr(sys.modules.get("torch"), "Tensor")
got = rwpm_fast.numpy.walk(np.eye(3, dtype=np.float32), alpha=1.0, steps=1)
assert np.allclose(got, (1 - np.eye(3)) / 2)
try:
    rwpm_fast.walk
except ImportError as error:
    assert {reason!r} in str(error), error
else:
    raise AssertionError("torch was to be missing")
"""


def test_works_without_torch(run_python):
    run_python("import sys\nsys.modules['torch'] = None\n" + WORKS.format(reason="torch"))


def test_works_where_torch_does_not_load(run_python, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text('raise ImportError("broken on purpose")\n')
    run_python(WORKS.format(reason="broken on purpose"), paths=[tmp_path / "broken"])


NOT_BUILT = """
import sys
sys.modules["rwpm_fast._native"] = None
import numpy as np
import rwpm_fast.native, rwpm_fast.numpy
assert "pip install --no-build-isolation" in rwpm_fast.native.unsupported_reason()
try:
    rwpm_fast.numpy.walk(np.eye(3))
except RuntimeError as error:
    assert "rwpm_fast._native is out of use" in str(error) and "build it with: pip install" in str(error)
else:
    raise AssertionError("no error")
"""


def test_says_how_to_build_what_is_missing(run_python):
    run_python(NOT_BUILT)
