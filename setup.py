"""Builds the compiled parts by calling CMake, which holds the sources and flags; the rest is in pyproject.toml.

torch is found in the environment that runs this, not in an isolated one, so install with --no-build-isolation. Without
torch the package still builds: the NumPy module is there and the operators run in plain torch. pip and uv show nothing
of a build that succeeds but the version that they install, so that of such a build ends in "+plain.torch". The CUDA
kernels are built where torch has CUDA and nvcc is there.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "rwpm_fast" / "__init__.py").read_text())[1]


def has_torch() -> bool:
    """Whether there is a torch that the operators can be built for; CMakeLists.txt asks for the same."""
    try:
        return tuple(map(int, version("torch").split(".")[:2])) >= (2, 11)
    except PackageNotFoundError:
        return False


def has_cuda() -> bool:
    """Whether torch has CUDA, looked up without its slow import, and nvcc is there."""
    torch = find_spec("torch")
    library = torch and torch.origin and Path(torch.origin).parent / "lib" / "libtorch_cuda.so"
    return bool(library and library.exists() and shutil.which("nvcc", path=f"{os.environ['PATH']}:/usr/local/cuda/bin"))


class CMakeBuild(build_ext):
    """Configures, builds and installs the CMake project into the package: the wheel's, or this tree's when editable."""

    def run(self) -> None:
        self.into_tree = bool(self.inplace or self.editable_mode)  # setuptools forgets --inplace while it builds
        super().run()
        if not has_torch():
            print(
                "rwpm-fast was built WITHOUT its compiled operators, since torch >= 2.11 is not in the environment of "
                "this build: walks run in plain torch, several times slower.\n"
                "Install torch first, then: pip install setuptools cmake ninja pybind11 && "
                "pip install --no-build-isolation .",
                file=sys.stderr,
            )

    def build_extension(self, ext: Extension) -> None:
        build = Path(self.build_temp).resolve()
        package = ROOT / "rwpm_fast" if self.into_tree else Path(self.build_lib) / "rwpm_fast"
        configure = [
            *("cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DRWPM_VERSION={VERSION}",
            "-DRWPM_TESTS=OFF",
            "-DRWPM_RUNTIME=OFF",
            f"-DRWPM_CUDA={'ON' if has_cuda() else 'OFF'}",
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)
        install = ["cmake", "--install", str(build), "--component", "python", "--prefix", str(package.resolve())]
        subprocess.run(install, check=True)

    def copy_extensions_to_source(self) -> None:
        """Nothing to copy: an editable build is installed into the tree at once, with the libraries beside _native."""


# A source archive is of no build.
label = "" if has_torch() or "sdist" in sys.argv else "+plain.torch"
setup(version=VERSION + label, ext_modules=[Extension("rwpm_fast._native", [])], cmdclass={"build_ext": CMakeBuild})
