"""Memory that is there, and errors that mean that it was not."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast import memory
from rwpm_fast.memory import available_memory, is_out_of_memory


def raised(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    return caught.value


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            'torch_call_dispatcher( "aten::new_empty", "",\n stack.data(), 2) API call failed at ops.h, line 9'
        ),
        RuntimeError("could not create a primitive"),
        OSError("out of memory error when reading image file"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        caused(ValueError("photo: cannot be read"), OSError("out of memory error when reading image file")),
        torch.cuda.OutOfMemoryError("HIP out of memory. Tried to allocate 2 GiB"),
        raised(lambda: np.empty(2**60, np.uint8)),
        raised(lambda: torch.empty(2**60, dtype=torch.uint8)),
        raised(lambda: bytearray(2**62)),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:60],
)
def test_every_form_is_recognized(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),  # words about memory, by code that had enough of it
        RuntimeError("could not create a primitive descriptor for a convolution"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        KeyError("x"),
        caused(ValueError("x"), KeyError("y")),
    ],
    ids=str,
)
def test_no_other_error_is(error):
    assert not is_out_of_memory(error)


LIMITED = """
import re, resource, sys
import torch
import rwpm_fast
from rwpm_fast.memory import available_memory, is_out_of_memory

generator = torch.Generator().manual_seed(0)
embeddings = torch.randn(1, 30000, 16, generator=generator)
settings = {"alpha": 0.9, "steps": 1, "temperature": 0.01}
walk = lambda tolerance: rwpm_fast.walk(embeddings, embeddings, tolerance=tolerance, **settings)
taken = lambda: 1024 * int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
failures = 0
for tolerance in (0.0, 1e-4):
    for more in (0, 2**20, 2**22, 2**23, 2**24):
        # Each time anew: what the last walk gave back is taken no more.
        resource.setrlimit(resource.RLIMIT_AS, (taken() + more, resource.RLIM_INFINITY))
        assert available_memory() <= more, available_memory()
        try:
            walk(tolerance)
        except Exception as error:
            assert is_out_of_memory(error), repr(error)
            failures += 1
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert failures >= 5
assert walk(0.0).isfinite().all()  # which has all its memory back
"""


def test_the_operator_out_of_memory(run_python):
    run_python(LIMITED, OMP_NUM_THREADS="1")


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_dot_", ".")).write_text(f"{content}\n")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system of 1000 kB without limits, in a folder."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_address_space", lambda: iter(()))
    write(tmp_path / "proc", meminfo="MemTotal: 4000 kB\nMemAvailable:    1000 kB\nSwapTotal: 0 kB")
    (tmp_path / "proc/self").mkdir()
    return tmp_path


def test_the_least_of_all_bounds_counts(system):
    assert available_memory() == 1_024_000
    # Version 2: the group is unlimited, the one around it is not; files that were read can go.
    write(system / "proc/self", cgroup="0::/jobs/7")
    write(system / "cgroup/jobs/7", memory_dot_max="max", memory_dot_current=500_000)
    write(system / "cgroup/jobs", memory_dot_max=600_000, memory_dot_current=550_000)
    assert available_memory() == 50_000
    (system / "cgroup/jobs/memory.stat").write_text("anon 1\ninactive_file 20000\nactive_file 3\n")
    assert available_memory() == 70_000
    # Version 1: a folder of the controller's own, a stat of the whole subtree.
    write(system / "proc/self", cgroup="4:cpu,cpuacct:/x\n3:memory:/x")
    write(system / "cgroup/memory/x", memory_dot_limit_in_bytes=2**63 - 4096, memory_dot_usage_in_bytes=9)
    assert available_memory() == 1_024_000
    write(system / "cgroup/memory", memory_dot_limit_in_bytes=100_000, memory_dot_usage_in_bytes=90_000)
    assert available_memory() == 10_000
    write(system / "cgroup/memory", memory_dot_limit_in_bytes=80_000)
    assert available_memory() == 0


def test_a_system_that_does_not_tell(system):
    (system / "proc/meminfo").unlink()
    assert available_memory() == 4 * 2**30


@pytest.fixture
def photos(tmp_path):
    """Two small photos, and one between them that takes more than a command has."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    random = np.random.default_rng(0)
    for name, size in (("0001_a", (160, 90)), ("0002_m", (3000, 2000)), ("0003_z", (160, 90))):
        photo = Image.fromarray(random.integers(0, 256, (90, 160, 3), dtype=np.uint8)).resize(size)
        photo.save(tmp_path / f"images/{name}.png", compress_level=1)
        label = Image.fromarray(random.integers(0, 2, (90, 160), dtype=np.uint8)).resize(size)
        label.save(tmp_path / f"labels/{name}.png", compress_level=1)
    return tmp_path


COMMAND = """
import re, resource, sys
import torch
from rwpm_fast import cli

taken = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_AS, (taken + 400 * 2**20,) * 2)
sys.exit(cli.main(sys.argv[1:]))
"""


def run_command(folder, *arguments):
    """Run a command that may take 400 MiB of address space."""
    words = [sys.executable, "-c", COMMAND, *arguments, "--threads", "1"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # each thread takes address space, of which there is little
    return subprocess.run(words, cwd=folder, env=one_thread, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("score images --out out --no-panel", "0003_z.npy"),
        ("submit fishyscapes images out", "0003_anomaly.npy"),
        ("evaluate --images images --labels labels --scores energy --cache out", "0003_z-*.npz"),
    ],
    ids=lambda text: text.split()[0],
)
def test_a_photo_too_large_stops_no_other(photos, command, written):
    done = run_command(photos, *command.split())
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "0002_m.png: out of memory on 3000x2000 pixels; make it smaller, or run where" in done.stderr
    assert list((photos / "out").glob(written)) and not list((photos / "out").glob("0002*"))


def test_a_single_photo_too_large(photos):
    done = run_command(photos, "demo", "--photo", "images/0002_m.png", "--out", "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("rwpm-fast demo: out of memory; use smaller photos, or run where")
