"""Every kernel compiles for GPUs that this machine need not have, within their shared memory."""

import json

import pytest

from rwpm_fast.ops.gpu.kernels.tiles import split_channels
from rwpm_fast.ops.gpu.launch import memory_for_tiles
from rwpm_fast.ops.gpu.tuning import screen_tile

# In a separate process: where kernels run in Triton's interpreter they cannot be compiled. All is as on a GPU but the
# driver, which records what is compiled and runs nothing.
COMPILE = """
import json, sys
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from rwpm_fast.ops.gpu import backward, exact, gradient, screen, sparse, walk

backend, arch, warp_size, memory, tiles, channels, value_channels, dtype, part = json.loads(sys.argv[1])
compiled = []

class Launcher:
    def __init__(self, source, metadata):
        compiled.append(metadata.name)

    def __call__(self, *launched, **options):
        pass

class Utilities:
    def load_binary(self, *binary):
        return 0, 0, 0, 0, 1024

    def get_device_properties(self, device):
        return {"max_shared_mem": memory}

class Driver:
    utils, launcher_cls = Utilities(), Launcher

    def get_current_target(self):
        return GPUTarget(backend, arch, warp_size)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

driver.set_active(Driver())
for module in (exact, gradient, screen, sparse):
    module.shared_memory = lambda device: tiles
e, v = (torch.empty(1, 300, width, dtype=getattr(torch, dtype)) for width in (channels, value_channels))
settings = {"alpha": 0.99, "steps": 1, "temperature": 0.01}
if part == "walk":
    walk.walk_batch(e, v, None, **settings, tolerance=1e-4)
    walk.walk_batch(e, v, torch.ones(1, 300, dtype=torch.bool), **settings, adjoint=True)
else:
    for tolerance in (0, 1e-4):
        backward.walk_gradients(v, e, v, None, **settings, tolerance=tolerance)
print(json.dumps(compiled))
"""

GPUS = {
    "A100": ("cuda", 80, 32, 166912),
    "RTX 4090": ("cuda", 89, 32, 101376),
    "H100": ("cuda", 90, 32, 232448),
    "B200": ("cuda", 100, 32, 232448),
    "MI300X": ("hip", "gfx942", 64, 65536),
}
WALK = [
    "largest_values",
    "list_columns",
    "pack_embeddings",
    "pack_values",
    "row_sums",
    "screen",
    "select",
    "step",
    "weigh",
]
KERNELS = {"walk": WALK, "gradient": sorted([*WALK, "gather", "multiply_pairs", "spread", "weigh_pairs"])}


def check(run_python, gpu, channels, value_channels, dtype, part):
    backend, arch, warp_size, memory = GPUS[gpu]
    tiles = memory_for_tiles(memory, arch // 10 if backend == "cuda" else 9)
    told = json.dumps([backend, arch, warp_size, memory, tiles, channels, value_channels, dtype, part])
    compiled = json.loads(run_python(f"import sys; sys.argv.append({told!r})\n{COMPILE}", TRITON_INTERPRET="0"))
    screens = screen_tile(sum(split_channels(channels)), tiles) is not None
    assert sorted(set(compiled)) == [name for name in KERNELS[part] if screens or name != "screen"]
    assert len(compiled) > len(KERNELS[part])  # there are two steps, and two kinds of row sums


@pytest.mark.parametrize("gpu", ["H100", pytest.param("MI300X", marks=pytest.mark.slow)])
@pytest.mark.parametrize("part", KERNELS)
def test_compiles(run_python, gpu, part):
    check(run_python, gpu, 259, 19, "float16", part)


@pytest.mark.slow
@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize(("channels", "value_channels"), [(256, 256), (259, 259), (512, 100), (19, 19)])
@pytest.mark.parametrize("part", KERNELS)
def test_compiles_for_more(run_python, gpu, dtype, channels, value_channels, part):
    check(run_python, gpu, channels, value_channels, dtype, part)
