"""The folder for the kernels hub: a project that is whole, and a kernel that lives beside the package."""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rwpm_fast
from python_tests.conformance import golden, load
from python_tests.helpers import manifold, relative_error

ROOT = Path(__file__).parents[1]
HUB = ROOT / "hub"
NAMESPACE = "_rwpm_walk_cpu_test"


def imported(name, file, **facts):
    spec = importlib.util.spec_from_file_location(name, file, **facts)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


prepare = imported("rwpm_hub_prepare", HUB / "prepare.py")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    out = tmp_path_factory.mktemp("hub") / "project"
    prepare.make_project(out)
    return out


def test_the_project_is_whole(project):
    tomllib = pytest.importorskip("tomllib")
    build = tomllib.loads((project / "build.toml").read_text())
    listed = {*build["torch"]["src"], *build["kernel"]["walk"]["src"]}
    assert listed == {str(file.relative_to(project)) for file in project.rglob("*") if file.suffix in (".cpp", ".h")}
    assert (project / "torch-ext" / build["general"]["name"].replace("-", "_") / "__init__.py").exists()
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert all(flag in cmake for flag in build["kernel"]["walk"]["cxx-flags"])
    # Each kernel once for every instruction set: those are the sources that take its name.
    kernels = {file.stem for file in (ROOT / "csrc/cpu").glob("*.cpp") if "::RWPM_ISA_NAMESPACE" in file.read_text()}
    assert kernels == set(prepare.kernels()) and len(kernels) >= 3
    compiled = {f"csrc/cpu/{kernel}_{isa}.cpp" for kernel in kernels for isa in prepare.isa_flags()}
    compiled |= set(re.findall(r"csrc/cpu/\w+\.cpp", cmake)) - {f"csrc/cpu/{kernel}.cpp" for kernel in kernels}
    bindings = {name for name in listed if name.startswith("csrc/bindings/") and name.endswith(".cpp")}
    assert {name for name in listed if name.endswith(".cpp")} == compiled | bindings | {"torch-ext/torch_binding.cpp"}
    # What a header declares is defined: the source of its name is there.
    sources = {file.stem: str(file.relative_to(ROOT)) for file in (ROOT / "csrc").glob("[bc]*/*.cpp")}
    headers = {Path(name).stem for name in listed if name.endswith(".h")}
    assert {sources[name] for name in headers & set(sources)} <= listed and "torch_workspace" in headers
    for file in listed - {"torch-ext/torch_binding.cpp"}:
        included = re.findall(r'^#include "(.+)"', (project / file).read_text(), re.M)
        assert all((project / "csrc" / name).exists() for name in included)


def test_the_hub_reads_the_project(project):
    rust = pytest.importorskip("kernels._rust")
    assert [str(backend).lower() for backend in rust.Build.open(project).general.backends] == ["cpu"]


def test_instruction_sets_are_those_of_cmake(project):
    flags = prepare.isa_flags()
    assert list(flags) == ["baseline", "avx2", "avx512", "avx512vnni", "amx"]
    assert flags["baseline"] == [] and flags["avx2"] == ["-mavx2", "-mfma"]
    assert {"-mavx512f", "-mavx512vnni", "-mamx-tile"} <= set(flags["amx"])
    text = (project / "csrc/cpu/exact_kernel_avx2.cpp").read_text()
    assert '#pragma GCC target("avx2,fma")\n#define RWPM_ISA_NAMESPACE avx2\n' in text


def test_the_kernel_has_the_settings_of_the_package(monkeypatch):
    source = (HUB / "torch-ext/rwpm_walk/__init__.py").read_text()
    assert set(re.findall(r"^(?:from|import) (\S+)", source, re.M)) == {"typing", "torch", "._ops"}
    # The operators of the package stand in for those of a build.
    ops = type(sys)("stub._ops")
    ops.ops, ops.add_op_namespace_prefix = torch.ops.rwpm, "rwpm::{}".format
    monkeypatch.setitem(sys.modules, "stub._ops", ops)
    for name in ("register_fake", "register_autograd"):
        monkeypatch.setattr(torch.library, name, lambda *_, **__: lambda function: function)
    walk = imported("stub", HUB / "torch-ext/rwpm_walk/__init__.py", submodule_search_locations=[]).walk
    ours = inspect.signature(rwpm_fast.walk).parameters
    theirs = inspect.signature(walk).parameters
    assert list(theirs) == [name for name in ours if name not in ("backend", "out", "return_info")]
    assert all(theirs[name].default == ours[name].default for name in theirs)
    e, v = manifold(50, 8), manifold(50, 3, seed=1)
    assert walk(e, v, steps=3).equal(rwpm_fast.walk(e, v, steps=3))


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """The kernel, loaded as the hub's package does it where that is there."""
    folder = tmp_path_factory.mktemp("kernel")
    build = folder / "cmake"
    configure = ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
    configure += ["-DRWPM_TESTS=OFF", "-DRWPM_RUNTIME=OFF", "-DRWPM_CUDA=OFF", f"-DRWPM_NAMESPACE={NAMESPACE}"]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build, "--target", "rwpm_ops"], check=True, capture_output=True)
    variant = prepare.make_kernel(folder / "build", build / "librwpm_ops.so", NAMESPACE)
    try:
        from kernels import get_local_kernel
    except ImportError:
        return imported(NAMESPACE, variant / "__init__.py", submodule_search_locations=[str(variant)])
    return get_local_kernel(folder, backend="cpu")


@pytest.mark.slow
@golden("walk", own=True)
def test_two_namespaces_in_one_process(kernel, path):
    case = load(path)
    e, v, mask = (torch.from_numpy(case[name]) for name in ("embeddings", "values", "mask"))
    got, expected = kernel.walk(e, v, mask=mask, steps=5), rwpm_fast.walk(e, v, mask=mask, steps=5)
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    assert hasattr(torch.ops, NAMESPACE) and hasattr(torch.ops.rwpm, "walk")


@pytest.mark.slow
def test_gradient_and_compiler(kernel):
    e, v = manifold(40, 8), manifold(40, 3, seed=1).requires_grad_()
    gradients = [
        torch.autograd.grad(walk(e, v, steps=4).square().sum(), v)[0] for walk in (kernel.walk, rwpm_fast.walk)
    ]
    assert relative_error(*gradients) == 0
    compiled = torch.compile(lambda e, v: kernel.walk(e, 2 * v, steps=4), fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(e, v), rwpm_fast.walk(e, 2 * v, steps=4)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("isa", prepare.isa_flags())
def test_kernels_compile_with_their_pragma(project, tmp_path, isa):
    for name in prepare.kernels():
        command = ["g++", "-std=c++17", "-O1", "-c", "-Icsrc", f"csrc/cpu/{name}_{isa}.cpp", "-o", tmp_path / "out.o"]
        subprocess.run(command, cwd=project, check=True, capture_output=True)
