"""Tile sizes: the first of a short list, best first, that a device's shared memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Tile(NamedTuple):
    """Rows and columns of a tile, warps of a program, and stages of its pipeline of loads."""

    rows: int
    columns: int
    warps: int
    stages: int


# Three stages before two: with two a tile is fetched only while the second product runs, with three a whole tile ahead.
# Four warps, which multiply together, for every 64 rows: more would each multiply all of them again.
EXACT_TILES = (
    Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(128, 32, 8, 3), Tile(128, 32, 8, 2), Tile(64, 64, 4, 2),
    Tile(64, 32, 4, 2), Tile(64, 32, 4, 1), Tile(32, 32, 4, 1), Tile(16, 16, 4, 1),
)  # fmt: skip
SCREEN_TILES = (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(64, 64, 4, 2), Tile(64, 64, 4, 1))
SELECT_TILES = (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(64, 32, 4, 2), Tile(64, 32, 4, 1))
WEIGH_TILES = (
    Tile(64, 64, 4, 2), Tile(64, 64, 4, 1), Tile(64, 32, 4, 1), Tile(32, 32, 4, 1), Tile(16, 16, 4, 1),
)  # fmt: skip
# Few columns: beside what it sums, a program holds four tiles of rows and columns.
PAIR_TILES = (
    Tile(128, 32, 8, 2), Tile(64, 32, 4, 2), Tile(64, 32, 4, 1), Tile(32, 32, 4, 1), Tile(16, 16, 4, 1),
)  # fmt: skip


def exact_tile(channels: int, value_channels: int, shared_memory: int, tiles: tuple[Tile, ...] = EXACT_TILES) -> Tile:
    """For row sums (no value channels) and exact steps; channels in float16, those in two halves counted twice."""

    def bytes_of(tile: Tile) -> int:
        columns = tile.stages * tile.columns
        # With a pixel's channels come up to three float32: its factor, and for the adjoint its row's maximum and sum.
        return 2 * (tile.rows * channels + columns * (channels + value_channels)) + 12 * columns

    return _first(tiles, bytes_of, shared_memory)


def screen_tile(channels: int, shared_memory: int, tiles: tuple[Tile, ...] = SCREEN_TILES) -> Tile | None:
    """For screening; columns are a group's or more. None if no tile fits."""
    return next((tile for tile in tiles if _bytes_of_keys(tile, channels) <= shared_memory), None)


def select_tile(channels: int, shared_memory: int, tiles: tuple[Tile, ...] = SELECT_TILES) -> Tile:
    """For selecting again, by rows over all pairs."""
    return _first(tiles, lambda tile: _bytes_of_keys(tile, channels), shared_memory)


def weigh_tile(channels: int, shared_memory: int) -> Tile:
    """For the weights of the pairs kept: rows of a group, columns of a block; channels in two halves counted twice."""

    def bytes_of(tile: Tile) -> int:
        # What is gathered into a pipeline is held once more on its way to the matrix units of sm_100.
        return _bytes_of_keys(tile, channels) + (2 * channels * tile.columns if tile.stages > 1 else 0)

    return _first(WEIGH_TILES, bytes_of, shared_memory)


def pair_tile(
    channels: int, value_channels: int, chunk: int, shared_memory: int, tiles: tuple[Tile, ...] = PAIR_TILES
) -> Tile:
    """For the gradient's products with pairs; channels in float16, those in two halves counted twice.

    Args:
        channels: of an embedding.
        value_channels: that a program carries.
        chunk: of the long rows, as many as are multiplied at a time.
        shared_memory: bytes that there are.
        tiles: to choose from, best first.
    """

    def bytes_of(tile: Tile) -> int:
        sides = tile.rows * channels + tile.columns * (channels + value_channels)
        # The products themselves, on their way to be multiplied, in two halves.
        return 2 * (sides + tile.stages * chunk * (tile.rows + tile.columns) + 2 * tile.rows * tile.columns)

    return _first(tiles, bytes_of, shared_memory)


def _bytes_of_keys(tile: Tile, channels: int) -> int:
    return 2 * channels * (tile.rows + tile.stages * tile.columns)


def _first(tiles: tuple[Tile, ...], bytes_of: Callable[[Tile], int], shared_memory: int) -> Tile:
    return next((tile for tile in tiles if bytes_of(tile) <= shared_memory), tiles[-1])
