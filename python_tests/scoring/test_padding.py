from __future__ import annotations

import pytest
import torch

from rwpm_fast.networks import Network
from rwpm_fast.scoring.padding import graph_mask, photo_edges


class Padded(Network):
    stride = 4
    padded_to = 32


class Resized(Padded):
    mirrored = True

    def input_size(self, photo_size):
        return tuple(2 * side for side in photo_size)


class Plain(Network):
    stride = 8


@pytest.mark.parametrize("padding", [True, False])
def test_a_map_of_nothing_but_photo_has_no_mask(padding):
    assert graph_mask(Plain(), (33, 50), (5, 7), None, padding=padding) is None
    assert graph_mask(Padded(), (64, 96), (16, 24), None, padding=padding) is None


def test_padding_is_left_out():
    assert graph_mask(Padded(), (33, 50), (16, 16), None, padding=True) is None
    mask = graph_mask(Padded(), (33, 50), (16, 16), None, padding=False)
    assert mask.shape == (1, 16, 16)
    assert mask[0, :9, :13].all() and mask.sum() == 9 * 13  # 33 rows reach into the ninth, 50 columns into the 13th


def test_mask_of_the_photo():
    photo = torch.ones(33, 50, dtype=torch.bool)
    photo[:, :7] = False
    with_padding, without = (graph_mask(Padded(), (33, 50), (16, 16), photo, padding=p)[0] for p in (True, False))
    assert not with_padding[:9, 0].any() and with_padding.sum() == 16 * 16 - 9
    assert not without[:, 0].any() and without[:9, 1:13].all() and without.sum() == 9 * 12


def test_mask_of_both_views():
    photo = torch.ones(16, 20, dtype=torch.bool)
    photo[:, :4] = False
    plain, mirrored = graph_mask(Resized(), (16, 20), (8, 16), photo, padding=False)
    assert not plain[:, :2].any() and plain[:, 2:10].all() and not plain[:, 10:].any()
    assert mirrored[:, :8].all() and not mirrored[:, 8:].any()


def test_edges():
    assert photo_edges(Plain(), (100, 200), (13, 25), 2) == ([0, 46, 100], [0, 96, 200])
    assert photo_edges(Padded(), (64, 96), (16, 24), 4) == ([0, 16, 32, 48, 64], [0, 24, 48, 72, 96])
    # Sub-maps 16 rows high and wide: of 33 x 50 the last rows and columns hold padding alone.
    assert photo_edges(Padded(), (33, 50), (16, 16), 4) == ([0, 16, 32, 33], [0, 16, 32, 48, 50])
    assert photo_edges(Padded(), (30, 30), (8, 8), 1) == ([0, 30], [0, 30])
    assert photo_edges(Resized(), (16, 20), (8, 16), 2) == ([0, 8, 16], [0, 16, 20])
