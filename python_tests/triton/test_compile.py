"""Every kernel compiles to machine code for GPUs that are not here, within their shared memory."""

import json

import pytest

from rwpm_fast.triton.launch import memory_for_tiles
from rwpm_fast.triton.tiles import split
from rwpm_fast.triton.tuning import screening_tile

# In an interpreter of its own: where kernels run in Triton's interpreter they cannot be compiled.
COMPILE = """
import json, sys
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rwpm_fast.triton import exact, look, packed, pairs, walk

backend, arch, warp_size, memory, channels, value_channels, dtype = json.loads(sys.argv[1])
launched = {}

def launch(kernel, grid, *arguments, **options):
    # What a launch is compiled for anew: numbers that are 1, and those that 16 divides, are told from others.
    facts = [x.dtype if isinstance(x, torch.Tensor) else (type(x), x == 1, x % 16 == 0) for x in arguments]
    launched[kernel.__name__, repr((facts, options))] = kernel, arguments, options

for module in (exact, look, packed, pairs):
    module.launch = launch
for module in (exact, look, pairs):
    module.shared_memory = lambda device: memory

e, v = (torch.empty(1, 300, width, dtype=getattr(torch, dtype)) for width in (channels, value_channels))
walk.walk(e, v, None, alpha=0.99, steps=1, temperature=0.01, tolerance=1e-4)

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int8: "*i8",
         torch.int32: "*i32", torch.int64: "*i64"}

def compiled(kernel, arguments, options):
    constants = {name: x for name, x in options.items() if name not in ("num_warps", "num_stages")}
    signature, attributes = dict.fromkeys(constants, "constexpr"), {}
    for number, (name, x) in enumerate(zip(kernel.arg_names, arguments)):
        if isinstance(x, torch.Tensor):
            signature[name] = TYPES[x.dtype]
            attributes[number,] = [["tt.divisibility", 16]]
        elif x == 1:
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "fp32" if isinstance(x, float) else "i32"
            if x % 16 == 0:
                attributes[number,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    wanted = {name: options[name] for name in ("num_warps", "num_stages") if name in options}
    return triton.compile(source, target=GPUTarget(backend, arch, warp_size), options=wanted)

print(json.dumps([[name, compiled(*rest).metadata.shared] for (name, _), rest in launched.items()]))
"""

GPUS = {
    "A100": ("cuda", 80, 32, 166912),
    "RTX 4090": ("cuda", 89, 32, 101376),
    "H100": ("cuda", 90, 32, 232448),
    "B200": ("cuda", 100, 32, 232448),
    "MI300X": ("hip", "gfx942", 64, 65536),
}
KERNELS = {
    *(
        "pack_embeddings",
        "largest_values",
        "pack_values",
        "row_sums",
        "screen",
        "select",
        "list_columns",
        "weigh",
        "step",
    ),
}


def check(run_python, gpu, *case):
    backend, arch, warp_size, memory = GPUS[gpu]
    tiles = memory_for_tiles(memory, arch // 10 if backend == "cuda" else 9)
    code = f"import sys; sys.argv.append({json.dumps(json.dumps([backend, arch, warp_size, tiles, *case]))})\n{COMPILE}"
    compiled = json.loads(run_python(code, TRITON_INTERPRET="0").splitlines()[-1])
    launched = KERNELS if screening_tile(sum(split(case[0])), tiles) else KERNELS - {"screen"}
    assert {name for name, _ in compiled} == launched
    assert len(compiled) > len(launched)  # there are two steps, and two kinds of looks
    assert all(shared <= memory for _, shared in compiled), compiled


@pytest.mark.parametrize("gpu", ["H100", "MI300X"])
def test_compiles(run_python, gpu):
    check(run_python, gpu, 259, 19, "float16")


@pytest.mark.slow
@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize(("channels", "value_channels"), [(256, 256), (259, 259), (512, 100), (19, 19)])
def test_compiles_for_more(run_python, gpu, dtype, channels, value_channels):
    check(run_python, gpu, channels, value_channels, dtype)
