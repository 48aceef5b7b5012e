import pytest

from rwpm_fast.ops.gpu.kernels.tiles import PANEL, TAIL, panels, split
from rwpm_fast.ops.gpu.tuning import selection_tile, streaming_tile

GPUS = {"H100": 232448, "A100": 166912, "RTX 4090": 101376, "MI300X": 65536}


def is_power_of_two(n):
    return n & (n - 1) == 0


def test_split_holds_channels_and_wastes_little():
    assert split(259) == (256, 16)
    assert split(19) == (32, 0)
    assert split(256) == (256, 0)
    for channels in range(513):
        main, tail = split(channels)
        assert main >= 16
        assert is_power_of_two(main) and is_power_of_two(tail)
        assert tail == 0 or 16 <= tail < main
        assert channels <= main + tail < max(1.5 * channels, channels + 16) + 1


@pytest.mark.parametrize("parts", [1, 2])
def test_panels_cover_every_channel_once(parts):
    for channels in [*range(1, 600), 1000, 4096]:
        end = 0
        for panel in panels(channels, parts):
            assert panel.first == end
            assert panel.count >= 1
            assert 16 <= panel.main <= PANEL // parts and panel.tail <= TAIL
            assert is_power_of_two(panel.main) and is_power_of_two(panel.tail)
            end = panel.end
        assert channels <= end < max(2 * channels, channels + 16)
        assert panels(end, parts)[-1].end == end  # the state is as wide for the steps as for what packed it


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("channels", [16, 64, 272, 512, 1024])
def test_tiles_divide_blocks(gpu, channels):
    for tile in (selection_tile(channels, GPUS[gpu]), *(streaming_tile(channels, c, GPUS[gpu]) for c in (0, 32, 544))):
        assert 128 % tile.rows == 128 % tile.columns == 0
        assert is_power_of_two(tile.warps)
    assert selection_tile(channels, GPUS[gpu]).rows % 64 == 0
    assert selection_tile(channels, GPUS[gpu]).columns % 32 == 0
