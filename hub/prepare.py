"""Make a project for the kernels hub of this folder and csrc/: ``python hub/prepare.py project OUT``, to be built by
kernel-builder; or a kernel that ``kernels.get_local_kernel`` loads, of a library that CMake built under a namespace of
its own: ``python hub/prepare.py kernel OUT LIBRARY NAMESPACE``.

The hub compiles each source once, with the same flags for all. So the kernels are written out once for every
instruction set, with those of its flags in CMakeLists.txt as a pragma.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
from pathlib import Path

HUB = Path(__file__).resolve().parent
ROOT = HUB.parent
CSRC = ROOT / "csrc"
MODULE = "rwpm_walk"
BINDINGS = ("torch_walk", "torch_workspace")  # what walk calls, of csrc/bindings/
PORTABLE = "baseline"


def kernels() -> list[str]:
    """Names of the sources in csrc/cpu/ that are compiled for every instruction set, as CMakeLists.txt has them."""
    sources = re.search(r"add_library\(rwpm_\$\{name\} OBJECT([^)]*)\)", (ROOT / "CMakeLists.txt").read_text())
    assert sources is not None
    return re.findall(r"csrc/cpu/(\w+)\.cpp", sources[1])


def isa_flags() -> dict[str, list[str]]:
    """Flags of every instruction set, as CMakeLists.txt has them."""
    text = (ROOT / "CMakeLists.txt").read_text()
    variables = {f"${{{name}}}": flags for name, flags in re.findall(r"set\((\w+) (-m[^)]*)\)", text)}
    found = {}
    for name, flags in re.findall(r"add_isa\((\w+)([^)]*)\)", text):
        for variable, value in variables.items():
            flags = flags.replace(variable, value)
        found[name] = flags.split()
    return found


def kernel_source(kernel: str, isa: str, flags: list[str]) -> str:
    """A kernel for one instruction set; empty on processors that are none of its family."""
    named = f"#define RWPM_ISA_NAMESPACE {isa}\n" + (CSRC / "cpu" / f"{kernel}.cpp").read_text()
    if isa == PORTABLE:
        return named
    targets = ",".join(flag.removeprefix("-m") for flag in flags)
    return f'#if defined(__x86_64__)\n#pragma GCC target("{targets}")\n{named}#endif\n'


def with_headers(sources: list[Path]) -> list[Path]:
    """Files of csrc/ and the headers there that they include, in order."""
    files = list(sources)
    for file in files:  # which grows
        for name in re.findall(r'^#include "(.+)"', file.read_text(), re.M):
            if (CSRC / name) not in files:
                files.append(CSRC / name)
    return sorted(files)


def make_project(out: Path) -> None:
    """Write a project of kernel-builder.

    Args:
        out: folder that is not there yet.
    """
    shutil.copytree(HUB, out, ignore=shutil.ignore_patterns("prepare.py", "__pycache__"))
    shutil.copy(ROOT / "LICENSE", out)
    config = (HUB / "build.toml").read_text()
    parts = {
        "bindings": [CSRC / "bindings" / f"{name}.cpp" for name in BINDINGS],
        "kernels": list((CSRC / "cpu").glob("*.cpp")),
    }
    for part, sources in parts.items():
        listed = []
        for file in with_headers(sources):
            texts = {file.relative_to(ROOT): file.read_text()}
            if file.suffix == ".cpp" and file.stem in kernels():
                texts = {
                    (file.with_stem(f"{file.stem}_{isa}")).relative_to(ROOT): kernel_source(file.stem, isa, flags)
                    for isa, flags in isa_flags().items()
                }
            for name, text in texts.items():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_text(text)
                listed.append(f'    "{name}",\n')
        config = config.replace(f'    "@{part}@",\n', "".join(listed))
    (out / "build.toml").write_text(config)


def make_kernel(out: Path, library: Path, namespace: str) -> Path:
    """Write a kernel as kernel-builder does, of a library that is there.

    Args:
        out: folder of the kernel's variants.
        library: with the operators, built with ``-DRWPM_NAMESPACE=namespace``.
        namespace: of the operators, a name that no other kernel in the process has.

    Returns:
        The folder of this variant.
    """
    variant = out / f"torch-stable-abi211-cpu-{platform.machine()}-linux"
    shutil.copytree(HUB / "torch-ext" / MODULE, variant, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(library, variant / f"{namespace}.so")
    (variant / "_ops.py").write_text(
        "from pathlib import Path\n\nimport torch\n\n"
        f'torch.ops.load_library(str(Path(__file__).with_name("{namespace}.so")))\n'
        f"ops = torch.ops.{namespace}\n\n\n"
        f'def add_op_namespace_prefix(op_name: str) -> str:\n    return f"{namespace}::{{op_name}}"\n'
    )
    facts = {"id": namespace, "name": MODULE.replace("_", "-"), "version": 1, "license": "Apache-2.0"}
    facts |= {"python-depends": [], "backend": {"type": "cpu"}}
    (variant / "metadata.json").write_text(json.dumps(facts, indent=2) + "\n")
    return variant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    project = kinds.add_parser("project", help="sources, for kernel-builder")
    kernel = kinds.add_parser("kernel", help="of a library that CMake built, for kernels.get_local_kernel")
    for each in (project, kernel):
        each.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    kernel.add_argument("library", type=Path, metavar="LIBRARY", help="librwpm_ops.so")
    kernel.add_argument("namespace", metavar="NAMESPACE", help="of the operators in it")
    options = parser.parse_args()
    if options.kind == "project":
        make_project(options.out)
    else:
        make_kernel(options.out, options.library, options.namespace)


if __name__ == "__main__":
    main()
