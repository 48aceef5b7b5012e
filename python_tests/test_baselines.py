import pytest
import torch

from python_tests.helpers import manifold, relative_error
from rwpm_fast import baselines, reference

SETTINGS = {"alpha": 0.9, "steps": 4, "temperature": 0.02}
WALKS = pytest.mark.parametrize("walk", [baselines.dense_walk, baselines.chunked_walk], ids=["dense", "chunked"])
EVERY = pytest.mark.parametrize(
    "walk", [baselines.dense_walk, baselines.chunked_walk, baselines.knn_walk], ids=["dense", "chunked", "knn"]
)


def readable(part):
    """Ids of error cases: the argument that is wrong, the error, and what its message says of what came."""
    if isinstance(part, dict):
        return next(iter(part))
    return part.__name__ if isinstance(part, type) else part.split("got ")[-1].replace("\\", "")


@pytest.fixture(params=[1, 300, baselines.SLAB], ids=["row by row", "few rows", "one slab"])
def slab(request, monkeypatch):
    monkeypatch.setattr(baselines, "SLAB", request.param)


@pytest.fixture
def pixels():
    return manifold(70, 8, dtype=torch.float64), manifold(70, 3, seed=1, dtype=torch.float64)


@WALKS
def test_equals_the_definition(pixels, slab, walk):
    assert relative_error(walk(*pixels, **SETTINGS), reference.walk(*pixels, **SETTINGS)) <= 1e-12
    e = pixels[0].float()
    assert walk(e).dtype == torch.float32
    assert relative_error(walk(e), reference.walk(e.double())) <= 1e-5


def test_released_takes_one_transition_more(pixels):
    for steps in (0, 5):
        got = baselines.dense_walk(*pixels, steps=steps, released=True)
        assert relative_error(got, reference.walk(*pixels, steps=steps + 1)) <= 1e-12


def test_knn_with_all_neighbors_is_the_walk(pixels, slab):
    got = baselines.knn_walk(*pixels, neighbors=69, **SETTINGS)
    assert relative_error(got, reference.walk(*pixels, **SETTINGS)) <= 1e-12


@pytest.mark.parametrize("neighbors", [1, 5, 50])
def test_knn_reads_the_nearest_only(pixels, slab, neighbors):
    """One transition of the identity shows the transition matrix itself."""
    e, _ = pixels
    identity = torch.eye(70, dtype=torch.float64)
    # So warm that no weight underflows to zero.
    S = baselines.knn_walk(e, identity, neighbors=neighbors, alpha=1.0, steps=1, temperature=1.0)
    assert S.count_nonzero(-1).tolist() == [neighbors] * 70
    assert S.diagonal().eq(0).all()
    torch.testing.assert_close(S.sum(-1), torch.ones(70, dtype=torch.float64))
    dense = reference.transition(e, temperature=1.0)
    kept = torch.zeros(70, 70, dtype=torch.bool).scatter_(1, dense.topk(neighbors, -1).indices, True)
    restricted = torch.where(kept, dense, 0)
    torch.testing.assert_close(S, restricted / restricted.sum(-1, keepdim=True))


def test_knn_weighs_by_cosine(pixels, slab):
    e, _ = pixels
    e = e.clone()
    e[3] = -e.mean(0)  # far from all
    e[4] = 0
    S = baselines.knn_walk(
        e, torch.eye(70, dtype=torch.float64), neighbors=9, weights="cosine", alpha=1.0, steps=1, temperature=0.5
    )
    cosines = torch.nn.functional.normalize(e, dim=-1) @ torch.nn.functional.normalize(e, dim=-1).T
    cosines.fill_diagonal_(-torch.inf)
    kept = cosines.topk(9, -1)
    for row, (values, indices) in enumerate(zip(*kept, strict=True)):
        if row == 4:  # all are equally far: any nine
            assert sorted(S[4].tolist())[-10:] == pytest.approx([0] + [1 / 9] * 9)
            continue
        positive = values.clamp_min(0)
        torch.testing.assert_close(S[row, indices], positive / positive.sum())
    torch.testing.assert_close(S.sum(-1), torch.ones(70, dtype=torch.float64))


def test_knn_walk_of_maps():
    embedding_map, value_map = manifold(2, 7, 9, 8).movedim(-1, 1), manifold(2, 7, 9, 3, seed=1).movedim(-1, 1)
    settings = {"neighbors": 5, "weights": "cosine", "alpha": 0.9, "steps": 4, "temperature": 0.02}
    walk = baselines.KnnWalk(**settings, parts=2)
    for values in (None, value_map):
        got = walk(embedding_map, values)
        for image in range(2):
            for rows in (slice(0, 3), slice(3, 7)):
                for columns in (slice(0, 4), slice(4, 9)):
                    block = (image, slice(None), rows, columns)
                    e, v = (m[block].flatten(1).T for m in (embedding_map, embedding_map if values is None else values))
                    wanted = baselines.knn_walk(e, v, **settings)
                    torch.testing.assert_close(got[block].flatten(1).T, wanted)
    assert all(f"{name}={value!r}" in repr(walk) for name, value in {**settings, "parts": 2}.items())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"neighbors": 0}, "neighbors: expected 1 or more, got 0"),
        ({"weights": "gauss"}, "weights: expected one of softmax, cosine, got 'gauss'"),
        ({"alpha": 2.0}, "alpha: expected a number"),
        ({"parts": 0}, "parts: expected 1 or more, got 0"),
    ],
    ids=readable,
)
def test_knn_walk_checks_its_settings_at_once(change, text):
    with pytest.raises(ValueError, match=text):
        baselines.KnnWalk(**change)


def test_knn_walk_of_maps_that_do_not_fit():
    embedding_map = manifold(1, 4, 4, 8).movedim(-1, 1)
    with pytest.raises(ValueError, match="mask: the k-NN graph takes all pixels"):
        baselines.KnnWalk(3)(embedding_map, mask=torch.ones(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="neighbors: expected 1 to 3 for 4 pixels, got 5"):
        baselines.KnnWalk(5, parts=2)(embedding_map)


@pytest.mark.filterwarnings("error")
def test_knn_is_quiet(pixels):
    baselines.knn_walk(*pixels)


@EVERY
def test_inputs_are_left_alone(pixels, walk):
    before = [x.clone() for x in pixels]
    walk(*pixels)
    assert all(torch.equal(now, then) for now, then in zip(pixels, before, strict=True))


@EVERY
@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"embeddings": torch.ones(1, 60, 8)}, ValueError, r"embeddings: expected shape \[N, D\], got \[1, 60, 8\]"),
        ({"embeddings": torch.ones(1, 8)}, ValueError, "embeddings: expected 2 or more pixels, got 1"),
        ({"values": torch.ones(61, 2)}, ValueError, r"values: expected shape \[60, C\].*got \[61, 2\]"),
        ({"alpha": 2.0}, ValueError, r"alpha: expected a number in \[0, 1\], got 2.0"),
        ({"steps": 1.5}, TypeError, "steps: expected an integer, got float"),
        ({"temperature": 0.0}, ValueError, "temperature: expected a positive finite number, got 0.0"),
    ],
    ids=readable,
)
def test_errors(walk, change, kind, text):
    with pytest.raises(kind, match=text):
        walk(**{"embeddings": torch.ones(60, 8)} | change)


@pytest.mark.parametrize("neighbors", [0, 60])
def test_neighbors_out_of_range(neighbors):
    with pytest.raises(ValueError, match=f"neighbors: expected 1 to 59 for 60 pixels, got {neighbors}"):
        baselines.knn_walk(torch.ones(60, 8), neighbors=neighbors)
