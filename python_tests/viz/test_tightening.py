"""The figure of a tightened class draws any photo, and draws what it is given."""

import io

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from PIL import Image

from python_tests.helpers import manifold
from rwpm_fast.ops.settings import WalkSettings
from rwpm_fast.scoring.tightening import PhotoPixels, nearest, tighten
from rwpm_fast.viz.figures import figure_bytes
from rwpm_fast.viz.projection import Projection
from rwpm_fast.viz.tightening import TightenedClass, tightening_figure


def tightened(size, *, steps=2, pixel=0, classes=None):
    """A class of a map of size[0] x size[1] pixels, eight pixels of a photo to each."""
    rows, columns = size
    n = rows * columns
    embeddings = manifold(n, 6)
    classes = torch.arange(n) % 2 if classes is None else classes
    centers = torch.cartesian_prod(*(8 * (torch.arange(side, dtype=torch.float64) + 0.5) for side in size))
    pixels = PhotoPixels(embeddings, classes, centers, (8.0, 8.0))
    walked, numbers = tighten(embeddings, classes, WalkSettings(steps=steps))
    points = np.random.default_rng(0).normal(size=(2, n, 2))
    return TightenedClass(
        photo=np.random.default_rng(1).integers(0, 256, (8 * rows, 8 * columns, 3), dtype=np.uint8),
        area=np.kron(classes.numpy().reshape(size) == 0, np.ones((8, 8), bool)),
        name="road",
        label=0,
        pixels=pixels,
        pixel=pixel,
        nearest=nearest(pixel, embeddings, walked, 5),
        sample=np.arange(n),
        projection=Projection(points[0], points[1], ("x", "y")),
        numbers=numbers,
        caption="$a_1.png",
    )


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((6, 8), {}),
        ((1, 40), {"pixel": 39}),
        ((60, 2), {"pixel": 61, "steps": 0}),
        ((4, 4), {"classes": torch.zeros(16, dtype=torch.int64)}),  # no other class: no margin
    ],
    ids=str,
)
def test_any_photo_is_drawn(size, settings):
    picture = Image.open(io.BytesIO(figure_bytes(tightening_figure(tightened(size, **settings)))))
    assert picture.size == (1700, 880)


def test_the_figure_shows_its_numbers():
    shown = tightened((12, 16), steps=3, pixel=100)
    figure = tightening_figure(shown)
    photo, before, after, scatter_before, scatter_after, cosines, spread, margin = figure.axes
    assert "road" in photo.get_title(loc="left") and "after 3 steps" in after.get_title(loc="left")
    assert len(photo.patches) == 11 and len(before.patches) == len(after.patches) == 6
    for ax, neighbors in ((before, shown.nearest[0]), (after, shown.nearest[1])):
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert 0 <= left < right <= 128 and 0 <= top < bottom <= 96
        places = [shown.pixels.centers[place].tolist() for place in neighbors.pixels]
        inside = [top < row < bottom and left < column < right for row, column in places]
        numbered = {text.get_text(): text.get_position() for text in ax.texts if text.get_text().isdigit()}
        wanted = {str(k): (x, y) for k, ((y, x), seen) in enumerate(zip(places, inside, strict=True), 1) if seen}
        assert numbered == wanted
        assert [text.get_text() for text in ax.texts if "away" in text.get_text()] == (
            [] if all(inside) else [f"{5 - sum(inside)} farther away"]
        )
    assert (
        scatter_before.get_xlim() == scatter_after.get_xlim() and scatter_before.get_ylim() == scatter_after.get_ylim()
    )
    others, own, star, near = (part.get_offsets() for part in scatter_after.collections)
    assert (len(others), len(own), len(star), len(near)) == (96, 96, 1, 5)
    np.testing.assert_array_equal(star[0], shown.projection.after[100])
    texts = [text.get_text() for text in cosines.texts]
    for neighbors in shown.nearest:
        assert {f"{cosine:.4f}" for cosine in (*neighbors.before, *neighbors.after)} <= set(texts)
    for ax, name in ((spread, "spread"), (margin, "margin")):
        own, mean, _zero = (line.get_ydata() for line in ax.lines)
        np.testing.assert_allclose(own, [float(getattr(step, name)[0]) for step in shown.numbers])
        np.testing.assert_allclose(mean, [float(getattr(step, name).mean()) for step in shown.numbers])


def test_the_photo_is_gray_outside_the_class():
    shown = tightened((6, 8))
    image = np.asarray(tightening_figure(shown).axes[0].images[0].get_array())
    assert np.array_equal(image[shown.area], shown.photo[shown.area])
    faded = image[~shown.area]
    assert (faded == faded[:, :1]).all() and faded.min() >= 140
