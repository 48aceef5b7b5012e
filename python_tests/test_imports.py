"""What the package does before the walk: imports, the compiled library and where it is not to be had.

Each case runs in an interpreter of its own, because an operator can be defined once in a process.
"""

import os

import pytest

LIGHT = """
import sys
import rwpm_fast
assert rwpm_fast.__version__
assert {*rwpm_fast.__all__, "numpy", "metrics"} <= set(dir(rwpm_fast))
assert not {"triton", "matplotlib", "PIL"} & set(sys.modules)
rooms = {name for name in sys.modules if name.startswith("rwpm_fast.")}
assert not rooms & {"rwpm_fast." + name for name in ("scoring", "scores", "metrics", "networks", "ops.maps")}
try:
    rwpm_fast.walks
except AttributeError as error:
    assert "has no attribute 'walks'" in str(error)
else:
    raise AssertionError("no error")
"""


def test_import_is_light(run_python):
    run_python(LIGHT)


STAR = """
import numpy
import types
data = scores = "the caller's"
mine = numpy
from rwpm_fast import *
assert numpy is mine and data == scores == "the caller's"
assert callable(walk) and issubclass(Walk, object)
modules = [value.__name__ for value in globals().values() if isinstance(value, types.ModuleType)]
assert not [name for name in modules if name.startswith("rwpm_fast")]
"""


def test_star_import_rebinds_no_module(run_python):
    run_python(STAR)


ALONE = """
import rwpm_fast
for name in [*rwpm_fast.__all__, *rwpm_fast._MODULES]:
    assert getattr(rwpm_fast, name) is not None
assert set(rwpm_fast.__all__) == set(rwpm_fast._HOMES)
"""


def test_every_name_is_there(run_python):
    run_python(ALONE)


# The walk of five pixels along a line of thought: right values, gradient, the framework's own checks.
WORKS = """
import warnings
import torch
import rwpm_fast
from rwpm_fast import ops, reference
from rwpm_fast.ops import library

def works():
    torch.manual_seed(0)
    e, v = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64).requires_grad_()
    mask = torch.arange(9) != 3
    setting = {"temperature": 0.1, "steps": 3}
    got, wanted = rwpm_fast.walk(e, v, mask=mask, **setting), reference.walk(e, v, mask=mask, **setting)
    torch.testing.assert_close(got, wanted)
    upstream = torch.randn(9, 2, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(got, v, upstream), torch.autograd.grad(wanted, v, upstream)
    )
    return e, v, mask
"""

COMPILED = (
    WORKS
    + """
warnings.simplefilter("error", ops.FallbackWarning)
assert library.unsupported_reason() is None, library.unsupported_reason()
works()
rwpm_fast.walk(torch.randn(5, 3), backend="cpu")
"""
)


def fallback(reason, way_out):
    return (
        WORKS
        + f"""
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    e, v, mask = works()
    rwpm_fast.walk(e)
assert [w.category for w in caught] == [ops.FallbackWarning], caught
text = str(caught[0].message)
assert {reason!r} in text and {way_out!r} in text, text
assert {reason!r} in library.unsupported_reason()
try:
    rwpm_fast.walk(e, backend="cpu")
except RuntimeError as error:
    assert str(error).startswith('backend="cpu": the compiled library is out of use: ')
    assert {reason!r} in str(error) and {way_out!r} in str(error)
else:
    raise AssertionError("no error")
"""
    )


NOT_BUILT = ("librwpm_ops.so is not built", "pip install --no-build-isolation")


def test_fallback_where_nothing_is_built(run_python, package_copy):
    framework = """
torch.library.opcheck(torch.ops.rwpm.walk.default, (e, v, mask), {"steps": 2, "temperature": 0.1})
torch.library.opcheck(torch.ops.rwpm.walk_adjoint.default, (v, e, mask), {"steps": 2, "temperature": 0.1})
walk = lambda x: torch.ops.rwpm.walk(e, x, mask, steps=2, temperature=0.1)
assert torch.autograd.gradcheck(walk, v)
assert torch.autograd.gradgradcheck(walk, v)
compiled = torch.compile(lambda x: rwpm_fast.walk(e, x, mask=mask, steps=2), fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(v), rwpm_fast.walk(e, v, mask=mask, steps=2))
for bad in ({"alpha": 2.0}, {"temperature": 0.0}, {"steps": -1}):
    try:
        torch.ops.rwpm.walk(e, **bad)
    except ValueError as error:
        assert next(iter(bad)) in str(error)
    else:
        raise AssertionError("no error")
import importlib
importlib.reload(library)
importlib.reload(ops.registration)
assert library.unsupported_reason()
works()
"""
    run_python(fallback(*NOT_BUILT) + framework, paths=[package_copy("bare", compiled=False)])


@pytest.mark.parametrize("installed", [True, False])
def test_source_in_front_of_the_installed_package(run_python, package_copy, installed):
    source, package = package_copy("clone", compiled=False), package_copy("site", compiled=True)
    ask = """
from rwpm_fast import native
from rwpm_fast.ops import library
print(library.unsupported_reason(), native.way_to_build("_native*.so", "needs g++"), sep="\\n")
"""
    path = os.pathsep.join(map(str, [source, package] if installed else [source]))
    told = run_python(ask, PYTHONPATH=path).splitlines()
    where = (
        f"imports the source folder {source} in place of the package installed in {package}; change to another folder"
    )
    assert len(told) == 2
    for reason in told:
        assert (where in reason) == installed and ("build it with" in reason) != installed
        assert "pip install --no-build-isolation -e ." in reason


def test_fallback_on_a_torch_that_is_too_old(run_python):
    pretend = "import torch\ntorch.__version__ = '2.10.1+cu126'\n"
    run_python(pretend + fallback("it needs torch >= 2.11, this is torch 2.10.1+cu126", "upgrade torch"))


def test_fallback_on_a_library_that_does_not_load(run_python, package_copy):
    place = package_copy("broken", compiled=False)
    (place / "rwpm_fast" / "librwpm_ops.so").write_bytes(b"not a library")
    run_python(fallback("librwpm_ops.so does not load into torch", "build it again"), paths=[place])


RELOAD = "import importlib\nimportlib.reload(library)\nimportlib.reload(ops.registration)\n"


@pytest.mark.parametrize("with_library", [True, False], ids=["compiled", "fallback"])
def test_reload(run_python, package_copy, with_library):
    if with_library:
        again = COMPILED + RELOAD + "assert library.unsupported_reason() is None\nworks()\n"
        run_python(again)
    else:
        again = fallback(*NOT_BUILT) + RELOAD + "works()\n"
        run_python(again, paths=[package_copy("bare", compiled=False)])


def test_library_loaded_before_the_package(run_python):
    first = """
import importlib.util
import pathlib
import torch
place = pathlib.Path(importlib.util.find_spec("rwpm_fast").origin).parent
torch.ops.load_library(str(place / "librwpm_ops.so"))
torch.ops.rwpm.walk(torch.randn(5, 3))
"""
    run_python(first + COMPILED)


SECOND = """
import gc
import sys
for name in [name for name in sys.modules if name.split(".")[0] == "rwpm_fast"]:
    del sys.modules[name]
del rwpm_fast, ops, library, reference, works
gc.collect()
sys.path.insert(0, {second!r})
"""


@pytest.mark.parametrize(
    ("first", "second"), [(True, True), (False, True), (True, False)], ids=["same", "bare first", "compiled first"]
)
def test_two_copies_in_one_process(run_python, package_copy, first, second):
    """Whichever copy comes first serves both, and nothing is registered twice."""
    one, two = package_copy("one", compiled=first), package_copy("two", compiled=second)
    quiet = "warnings.simplefilter('ignore', ops.FallbackWarning)\nworks()\n"
    check = f"assert ops.__file__.startswith({str(two)!r})\n"
    run_python(WORKS + quiet + SECOND.format(second=str(two)) + WORKS + check + quiet, paths=[one])


def test_without_triton_and_without_a_gpu(run_python):
    blocked = "import sys\nsys.modules['triton'] = None\n"
    run_python(blocked + COMPILED, CUDA_VISIBLE_DEVICES="")


def test_networks_without_transformers(run_python):
    run_python(
        "import sys\nsys.modules['transformers'] = None\n"
        "from rwpm_fast import networks\nassert 'rba_swin_b' in networks.NETWORKS\nnetworks.DABNet()\n"
        "try:\n    networks.RbASwinB()\n"
        "except ImportError as error:\n    assert 'rwpm-fast[transformers]' in str(error)\n"
        "else:\n    raise AssertionError('no error')\n"
    )


def test_operator_comes_with_the_package(run_python):
    run_python(
        "import torch\nfrom rwpm_fast import walk\nassert torch.ops.rwpm.walk(torch.randn(5, 3)).shape == (5, 3)\n"
    )
