"""Maps and neighbors that the server sends are those of the package."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from python_tests.helpers import manifold
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Walk, transition
from rwpm_fast.ops.settings import WalkSettings
from rwpm_fast.serve import graphs as graphs_module
from rwpm_fast.serve.graphs import GraphWalk, PhotoGraphs
from rwpm_fast.serve.limits import Limits, Refusal
from rwpm_fast.serve.neighbors import SHOWN, neighborhood

from .serving import MANY, encoded, picture, scorer, serving, unpack

SETTINGS = [
    {},
    {"alpha": 0.5},
    {"steps": 0},
    {"steps": 40, "alpha": 1.0},
    {"temperature": 0.1},
    {"parts": 2, "tolerance": 1e-2},
    {"tolerance": 0.0, "anchor_share": 0.0},
    {"anchor_share": 0.2, "parts": 3},
]


@pytest.fixture(scope="module")
def photo():
    return picture((72, 104))


@pytest.fixture(scope="module")
def session(client, photo):
    return client.open(encoded(photo))


def query(settings):
    return "&".join(f"{name}={value}" for name, value in settings.items())


def assert_same_score(got, head, expected):
    # Half a level, and the rounding of score and segmentation in one pass, which the scorer computes in several.
    torch.testing.assert_close(torch.from_numpy(got), expected.double(), atol=0.51 * head["step"] + 1e-5, rtol=0)
    assert head["step"] * 65535 == pytest.approx(float(expected.max() - expected.min()), rel=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_map_is_that_of_the_scorer(client, session, photo, settings):
    data = client.get(f"/api/photos/{session['id']}/walked?{query(settings)}").body
    head, score, classes, labels = unpack(data)
    base = scorer()
    scored = base.with_walk(Walk(**vars(replace(base.walk.settings, **settings))))(photo)
    assert_same_score(score, head, scored.score)
    assert labels is None and classes.shape == tuple(session["map_size"]) == scored.map_size


def test_the_map_without_the_walk(client, session, photo):
    head, score, classes, _ = unpack(client.get(f"/api/photos/{session['id']}/plain").body)
    scored = scorer().with_walk(None)(photo)
    assert_same_score(score, head, scored.score)
    height, width = session["cell_size"]
    rows, columns = (int((k + 0.5) * side) for k, side in ((4, height), (7, width)))
    assert classes[4, 7] == scored.segmentation[rows, columns]


def test_a_street_has_labels(client):
    from rwpm_fast.scenes import render_holdout_scene

    session = client.post("/api/samples/2").json
    photo, labels = render_holdout_scene(2, (48, 96))
    head, score, _, got = unpack(client.get(f"/api/photos/{session['id']}/plain").body)
    assert np.array_equal(got, labels) and session["name"] == "Street 2"
    assert_same_score(score, head, scorer().with_walk(None)(photo).score)
    shown = client.get(f"/api/photos/{session['id']}/photo.jpg")
    assert shown.headers["content-type"] == "image/jpeg" and shown.body[:2] == b"\xff\xd8"


@pytest.fixture
def maps():
    """Embeddings [1, 24, 40, 30] whose graph is sparse, and values [1, 5, 40, 30]."""
    return tuple(
        manifold(1200, channels, directions=60, noise=0.4, seed=channels).mT.reshape(1, channels, 40, 30)
        for channels in (24, 5)
    )


@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 0.3, "steps": 7}, {"parts": 2}, {"anchor_share": 0.1}, {"tolerance": 0.0}], ids=str
)
@pytest.mark.parametrize("masked", [False, True])
def test_a_kept_graph_walks_as_a_new_one(maps, settings, masked):
    embeddings, values = maps
    mask = torch.ones(1, 40, 30, dtype=torch.bool)
    mask[:, :9] = False
    mask = mask if masked else None
    wanted = WalkSettings(**{"tolerance": 1e-3, "steps": 4, **settings})
    kept = PhotoGraphs(embeddings, mask, Limits())
    kept.get(wanted)
    got = GraphWalk(kept, wanted)(embeddings, values, mask)
    expected = Walk(**vars(wanted))(embeddings, values, mask)
    sparse = all(graph.path == "sparse" for graph in kept.get(wanted))
    assert sparse == (wanted.tolerance > 0 and wanted.parts == 1)
    if sparse and not wanted.anchor_share:
        assert torch.equal(got, expected)
    torch.testing.assert_close(got, expected, atol=3e-5, rtol=0)


def test_a_graph_is_built_once_for_all_walks(monkeypatch):
    built = []

    def counted(*args, **kwargs):
        built.append(kwargs["temperature"])
        return transition(*args, **kwargs)

    monkeypatch.setattr(graphs_module, "transition", counted)
    network = TinyNetwork()
    with serving(replace(MANY, graphs=2), network=network) as client:
        session = client.open(encoded(picture((24, 32))))
        passes = network.passes
        built.clear()

        def walk(**settings):
            assert client.get(f"/api/photos/{session['id']}/walked?{query(settings)}").status == 200
            return len(built)

        assert walk() == 1
        assert walk(alpha=0.5) == walk(steps=9) == walk(anchor_share=0.1) == 1
        assert walk(temperature=0.5) == 2 and walk(temperature=0.5, alpha=0.1) == 2
        assert walk() == 2  # two are kept
        assert walk(parts=2) == 6 and walk() == 6 and walk(temperature=0.5) == 7
        assert network.passes == passes


@pytest.mark.parametrize("parts", [1, 2])
def test_neighbors_are_a_row_of_the_transition_matrix(maps, parts):
    embeddings, _ = maps
    settings = WalkSettings(tolerance=1e-5, parts=parts, anchor_share=0.1)
    kept = PhotoGraphs(embeddings, None, Limits())
    row, column = 33, 21
    found = neighborhood(kept, settings, row, column)
    rows, columns = (slice(0, 40), slice(0, 30)) if parts == 1 else (slice(20, 40), slice(15, 30))
    graph = transition(embeddings[0, :, rows, columns].flatten(1).mT, tolerance=1e-5)
    width = columns.stop - columns.start
    pixel = (row - rows.start) * width + column - columns.start
    weights = graph.to_csr().to_dense()[pixel]
    strongest = weights.topk(SHOWN)
    places = [(rows.start + k // width, columns.start + k % width) for k in strongest.indices.tolist()]
    count = sum(weight > 1e-4 for weight in strongest.values)
    assert count >= 5
    assert [place for *place, _ in found.neighbors[:count]] == [list(place) for place in places[:count]]
    np.testing.assert_allclose([n[2] for n in found.neighbors], strongest.values[: len(found.neighbors)], atol=3e-5)
    assert found.half == int((weights.sort(descending=True).values.cumsum(0) < 0.5).sum()) + 1
    assert found.own_weight == graph.own_weights(anchor_share=0.1)[pixel]


def test_a_pixel_that_is_no_part_of_the_graph(maps):
    embeddings, _ = maps
    mask = torch.ones(1, 40, 30, dtype=torch.bool)
    mask[0, 3, 4] = False
    found = neighborhood(PhotoGraphs(embeddings, mask, Limits()), WalkSettings(tolerance=1e-3), 3, 4)
    assert (found.own_weight, found.neighbors, found.half) == (1.0, [], 0)


def test_neighbors_over_http(client, session):
    answer = client.get(f"/api/photos/{session['id']}/neighbors?row=3&column=5&temperature=0.1").json
    weights = [weight for _, _, weight in answer["neighbors"]]
    assert weights == sorted(weights, reverse=True) and 0 < sum(weights) <= 1 + 1e-6
    assert [3, 5] not in [place for *place, _ in answer["neighbors"]]
    rows, columns = session["map_size"]
    for row, column in ((rows, 0), (0, columns), (-1, 0)):
        refused = client.get(f"/api/photos/{session['id']}/neighbors?row={row}&column={column}")
        assert refused.status == 422 and f"{rows}x{columns}" in refused.json["error"]


def test_a_walk_that_takes_too_long_is_refused(maps):
    kept = PhotoGraphs(maps[0], None, Limits(walk_seconds=1e-9))
    with pytest.raises(Refusal, match="would take about"):
        kept.get(WalkSettings(tolerance=1e-3))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (900, 2), (8, 8)])
def test_photos_of_any_shape(client, size):
    session = client.open(encoded(np.full((*size, 3), 90, np.uint8)))
    for what in ("plain", "walked", "walked?tolerance=0"):
        _, score, classes, _ = unpack(client.get(f"/api/photos/{session['id']}/{what}").body)
        assert score.shape == size and np.isfinite(score).all() and classes.shape == tuple(session["map_size"])
    assert client.get(f"/api/photos/{session['id']}/neighbors?row=0&column=0").status == 200
    assert client.get(f"/api/photos/{session['id']}/photo.jpg").status == 200
