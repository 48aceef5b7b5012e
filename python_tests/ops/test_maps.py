from itertools import pairwise

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.export import Dim

import rwpm_fast
from python_tests.helpers import manifold, relative_error
from rwpm_fast import Walk, reference, walk_map
from rwpm_fast.ops.maps import partition_edges


def readable(part):
    """Ids of error cases: the argument that is wrong, the error, and what its message says of what came."""
    if isinstance(part, dict):
        return next(iter(part))
    return part.__name__ if isinstance(part, type) else part.split("got ")[-1].replace("\\", "")


def maps(manifold, batch=2, channels=6, height=9, width=11, **how):
    return manifold(batch, height, width, channels, **how).permute(0, 3, 1, 2).contiguous()


def block_by_block(embedding_map, value_map, parts, mask=None, **settings):
    """Every sub-map of every image walked by the definition, in loops."""
    result = torch.full_like(value_map, torch.nan)
    height, width = embedding_map.shape[-2:]
    for b in range(len(embedding_map)):
        for i in range(parts):
            for j in range(parts):
                rows = slice(height * i // parts, height * (i + 1) // parts)
                columns = slice(width * j // parts, width * (j + 1) // parts)
                e, v = (x[b, :, rows, columns] for x in (embedding_map, value_map))
                m = None if mask is None else mask[b, rows, columns].flatten()
                walked = reference.walk(e.flatten(1).T, v.flatten(1).T, mask=m, **settings)
                result[b, :, rows, columns] = walked.T.reshape(v.shape)
    return result


@pytest.mark.parametrize(
    ("height", "width", "parts"),
    [(8, 12, 1), (8, 12, 2), (8, 12, 4), (13, 17, 3), (13, 17, 5), (7, 4, 4), (1, 9, 1), (5, 5, 5)],
)
def test_equals_block_by_block(height, width, parts):
    e = maps(manifold, height=height, width=width, dtype=torch.float64)
    v = maps(manifold, channels=3, height=height, width=width, seed=1, dtype=torch.float64)
    got = walk_map(e, v, parts=parts, steps=3)
    assert got.is_contiguous()
    assert relative_error(got, block_by_block(e, v, parts, steps=3)) <= 1e-12


def test_whole_map_is_the_flat_walk():
    e, v = maps(manifold), maps(manifold, channels=3, seed=1)
    flat = rwpm_fast.walk(e.flatten(2).mT, v.flatten(2).mT)
    assert torch.equal(walk_map(e, v), flat.mT.reshape(v.shape))
    assert torch.equal(walk_map(e), walk_map(e, e))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_mask(parts):
    e, v = maps(manifold, dtype=torch.float64), maps(manifold, channels=3, seed=1, dtype=torch.float64)
    mask = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(0)) < 0.7
    got = walk_map(e, v, mask=mask, parts=parts)
    assert relative_error(got, block_by_block(e, v, parts, mask)) <= 1e-12
    out = ~mask[:, None].expand_as(v)
    assert torch.equal(got[out], v[out])


def test_masked_pixels_are_read_by_nobody():
    e, v = maps(manifold), maps(manifold, channels=3, seed=1)
    mask = torch.ones(2, 9, 11, dtype=torch.bool)
    # The lower sub-maps begin at row 4, so that they lose all rows but one.
    mask[:, 5:] = False
    wanted = walk_map(e, v, mask=mask, parts=2, temperature=1.0)
    other_e, other_v = e.clone(), v.clone()
    other_e[:, :, 5:], other_v[:, :, 5:] = 5.0, torch.nan
    got = walk_map(other_e, other_v, mask=mask, parts=2, temperature=1.0)
    assert torch.equal(got[:, :, :5], wanted[:, :, :5])
    unmasked = walk_map(e, v, parts=2, temperature=1.0)
    assert not torch.allclose(unmasked[:, :, :5], wanted[:, :, :5])


@pytest.mark.parametrize("parts", [1, 2])
def test_one_image_without_a_batch(parts):
    e, v = maps(manifold), maps(manifold, channels=3, seed=1)
    mask = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(0)) < 0.7
    together = walk_map(e, v, mask=mask, parts=parts)
    for b in range(2):
        alone = walk_map(e[b], v[b], mask=mask[b], parts=parts)
        assert torch.equal(alone, together[b])


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_memory_format_does_not_matter(parts):
    e, v = maps(manifold), maps(manifold, channels=3, seed=1)
    last = walk_map(*(x.to(memory_format=torch.channels_last) for x in (e, v)), parts=parts)
    assert last.is_contiguous()
    assert torch.equal(last, walk_map(e, v, parts=parts))
    inside = torch.nn.functional.pad(e, (1, 2, 3, 4))[..., 3:-4, 1:-2]
    assert torch.equal(walk_map(inside, v, parts=parts), last)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)], ids=["no images", "no channels"])
def test_empty_maps(shape, parts):
    assert walk_map(torch.zeros(shape), parts=parts).shape == shape


@pytest.mark.parametrize("shape", [(2, 3, 0, 4), (2, 3, 4, 0), (3, 0, 0)], ids=str)
def test_maps_without_pixels(shape):
    assert walk_map(torch.zeros(shape)).shape == shape


def test_gradient():
    e, v = maps(manifold, dtype=torch.float64), maps(manifold, channels=3, seed=1, dtype=torch.float64)
    v.requires_grad_()
    upstream = maps(manifold, channels=3, seed=2, dtype=torch.float64)
    (got,) = torch.autograd.grad(walk_map(e, v, parts=2, steps=3), v, upstream)
    (wanted,) = torch.autograd.grad(block_by_block(e, v, 2, steps=3), v, upstream)
    assert relative_error(got, wanted) <= 1e-12


@pytest.mark.parametrize(("size", "parts"), [(12, 4), (13, 3), (17, 3), (5, 5), (1, 1), (0, 1), (1080, 7)])
def test_partition_edges(size, parts):
    edges = partition_edges(size, parts)
    lengths = [b - a for a, b in pairwise(edges)]
    assert edges[0] == 0
    assert edges[-1] == size
    assert len(lengths) == parts
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("parts", [0, -1, 10])
def test_parts_out_of_range(parts):
    with pytest.raises(ValueError, match=rf"parts: expected 1 .*, got {parts}$"):
        walk_map(maps(manifold), parts=parts)
    with pytest.raises(TypeError, match="parts: expected an integer, got float"):
        walk_map(maps(manifold), parts=2.0)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (
            {"embedding_map": torch.ones(4, 5)},
            ValueError,
            r"embedding_map: expected shape \[B, D, H, W\].*got \[4, 5\]",
        ),
        ({"embedding_map": [1.0]}, TypeError, "embedding_map: expected a torch.Tensor, got list"),
        (
            {"value_map": torch.ones(2, 3, 5, 4)},
            ValueError,
            r"value_map: expected shape \[2, C, 4, 5\] to match embedding_map \[2, 6, 4, 5\], got \[2, 3, 5, 4\]",
        ),
        ({"value_map": torch.ones(3, 4, 5)}, ValueError, r"value_map: expected shape \[2, C, 4, 5\].*got \[3, 4, 5\]"),
        ({"value_map": 3}, TypeError, "value_map: expected a torch.Tensor, got int"),
        (
            {"mask": torch.ones(2, 1, 4, 5, dtype=torch.bool)},
            ValueError,
            r"mask: expected shape \[2, 4, 5\] to match embedding_map \[2, 6, 4, 5\], got \[2, 1, 4, 5\]",
        ),
        ({"mask": torch.ones(2, 4, 5)}, TypeError, "mask: expected dtype bool, got torch.float32"),
        (
            {"embedding_map": torch.ones(2, 6, 4, 5).int()},
            TypeError,
            "embedding_map: expected dtype .* got torch.int32",
        ),
        ({"value_map": torch.ones(2, 6, 4, 5).int()}, TypeError, "value_map: expected dtype .* got torch.int32"),
        ({"alpha": 2}, ValueError, r"alpha: expected a number in \[0, 1\], got 2"),
        ({"backend": "gpu"}, ValueError, "backend: expected one of auto, cpu, triton, cuda, torch, got 'gpu'"),
    ],
    ids=readable,
)
def test_errors_speak_of_maps(change, kind, text):
    with pytest.raises(kind, match=f"^{text}"):
        walk_map(**{"embedding_map": torch.ones(2, 6, 4, 5)} | change)


def test_module_is_the_function_with_its_settings():
    e, v = maps(manifold), maps(manifold, channels=3, seed=1)
    mask = torch.arange(9 * 11).reshape(1, 9, 11).expand(2, 9, 11) % 5 > 0
    settings = {"alpha": 0.7, "steps": 4, "temperature": 0.1, "parts": 3, "tolerance": 1e-6, "backend": "torch"}
    module = Walk(**settings)
    assert torch.equal(module(e, v, mask), walk_map(e, v, mask=mask, **settings))
    assert torch.equal(module(e), walk_map(e, **settings))
    assert torch.equal(Walk()(e), walk_map(e))
    assert not list(module.parameters())
    assert not module.state_dict()


def test_module_shows_its_settings():
    module = Walk(0.7, 4, 0.1, parts=3, tolerance=1e-6, backend="torch")
    assert repr(module) == "Walk(alpha=0.7, steps=4, temperature=0.1, parts=3, tolerance=1e-06, backend='torch')"


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"alpha": 1.5}, ValueError, r"alpha: expected a number in \[0, 1\], got 1.5"),
        ({"steps": 2.5}, TypeError, "steps: expected an integer, got float"),
        ({"temperature": 0}, ValueError, "temperature: expected a positive finite number, got 0"),
        ({"tolerance": 1}, ValueError, r"tolerance: expected a number in \[0, 1\), got 1"),
        ({"parts": 0}, ValueError, "parts: expected 1 or more"),
        ({"parts": 1.5}, TypeError, "parts: expected an integer, got float"),
        ({"backend": "gpu"}, ValueError, "backend: expected one of auto, cpu, triton, cuda, torch, got 'gpu'"),
    ],
    ids=readable,
)
def test_module_checks_its_settings(settings, kind, text):
    with pytest.raises(kind, match=text):
        Walk(**settings)


# The first has no two sizes that are equal to each other or to the channels: a compiler takes such for one symbol.
SIZES = ((6, 8), (7, 9), (9, 11), (8, 8), (20, 31), (31, 20), (10, 40), (45, 80))
# Nine sub-maps take a compiler half a minute.
SETTINGS = [
    {},
    {"tolerance": 1e-3},
    {"parts": 2},
    pytest.param({"parts": 3, "tolerance": 1e-3}, marks=pytest.mark.slow),
]


def inputs_of_size(height, width, kind):
    """Embeddings, and where the kind has them values and a mask."""
    e = maps(manifold, channels=12, batch=1, height=height, width=width)
    if kind == "embeddings":
        return e, None, None
    mask = torch.rand(1, height, width, generator=torch.Generator().manual_seed(0)) < 0.8
    return e, maps(manifold, channels=3, batch=1, height=height, width=width, seed=1), mask


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["embeddings", "values, mask"])
def test_compiled_once_for_all_sizes(fresh_compiler, settings, kind):
    counter = CompileCounter()
    module = Walk(steps=2, **settings)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=counter)
    for size in SIZES:
        inputs = inputs_of_size(*size, kind)
        assert torch.equal(compiled(*inputs), module(*inputs))
    assert counter.frame_count == 1


@pytest.mark.parametrize("parts", [1, 2])
def test_compile_for_any_size(fresh_compiler, parts):
    module = Walk(steps=2, parts=parts)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for height, width in ((6, 8), (7, 9), (9, 11), (2, 9)):
        e = maps(manifold, height=height, width=width)
        assert torch.equal(compiled(e), module(e))


def test_export():
    e = maps(manifold)
    module = Walk(steps=2, parts=2)
    assert torch.equal(torch.export.export(module, (e,)).module()(e), module(e))


def export_for_any_size(module, inputs, height, width, *, strict):
    _, v, mask = inputs
    shapes = (
        {2: height, 3: width},
        v if v is None else {2: height, 3: width},
        mask if mask is None else {1: height, 2: width},
    )
    return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=strict).module()


NAMED = Dim("height", min=2, max=512), Dim("width", min=2, max=512)


@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dims", [(Dim.AUTO,) * 2, (Dim.DYNAMIC,) * 2, NAMED], ids=["auto", "dynamic", "named"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_export_for_any_size(dims, strict, settings):
    module = Walk(steps=2, **settings)
    if dims is NAMED and module.parts > 1:
        pytest.skip("torch cannot prove sizes of sub-maps within the ranges of named dimensions, and says so")
    exported = export_for_any_size(module, inputs_of_size(45, 80, "values, mask"), *dims, strict=strict)
    for size in SIZES:
        inputs = inputs_of_size(*size, "values, mask")
        assert torch.equal(exported(*inputs), module(*inputs))


def test_sub_maps_of_named_dimensions_are_refused_not_frozen():
    with pytest.raises(torch._dynamo.exc.UserError, match="Constraints violated"):
        export_for_any_size(Walk(parts=2), inputs_of_size(45, 80, "embeddings"), *NAMED, strict=False)


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_trainable_parameters(strict):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 1), Walk(steps=2))
    photo = torch.rand(1, 3, 9, 11)
    exported = torch.export.export(module, (photo,), strict=strict).module()
    torch.testing.assert_close(exported(photo), module(photo))
