import pytest

from rwpm_fast.ops.gpu.kernels.tiles import CHANNEL_TILE, MAX_TAIL, channel_tiles, split_channels
from rwpm_fast.ops.gpu.tuning import exact_tile, select_tile

GPUS = {"H100": 232448, "A100": 166912, "RTX 4090": 101376, "MI300X": 65536}


def is_power_of_two(n):
    return n & (n - 1) == 0


def test_split_channels_holds_all_and_wastes_little():
    assert split_channels(259) == (256, 16)
    assert split_channels(19) == (32, 0)
    assert split_channels(256) == (256, 0)
    for channels in range(513):
        main, tail = split_channels(channels)
        assert main >= 16
        assert is_power_of_two(main) and is_power_of_two(tail)
        assert tail == 0 or 16 <= tail < main
        assert channels <= main + tail < max(1.5 * channels, channels + 16) + 1


@pytest.mark.parametrize("halves", [1, 2])
def test_channel_tiles_cover_every_channel_once(halves):
    for channels in [*range(1, 600), 1000, 4096]:
        end = 0
        for tiles in channel_tiles(channels, halves):
            assert tiles.first == end
            assert tiles.tiles >= 1
            assert 16 <= tiles.main <= CHANNEL_TILE // halves and tiles.tail <= MAX_TAIL
            assert is_power_of_two(tiles.main) and is_power_of_two(tiles.tail)
            end = tiles.end
        assert channels <= end < max(2 * channels, channels + 16)
        assert channel_tiles(end, halves)[-1].end == end  # the state is as wide for the steps as for what packed it


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("channels", [16, 64, 272, 512, 1024])
def test_tiles_divide_blocks(gpu, channels):
    for tile in (select_tile(channels, GPUS[gpu]), *(exact_tile(channels, c, GPUS[gpu]) for c in (0, 32, 544))):
        assert 128 % tile.rows == 128 % tile.columns == 0
        assert is_power_of_two(tile.warps)
    assert select_tile(channels, GPUS[gpu]).rows % 64 == 0
    assert select_tile(channels, GPUS[gpu]).columns % 32 == 0
