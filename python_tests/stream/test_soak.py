"""Many frames, some slow, some broken, a source that goes away, a disk that fills: memory stays, sums match."""

import gc
import resource
import tracemalloc
from pathlib import Path

import pytest

from python_tests.stream.fakes import FakeSource, FakeStages
from rwpm_fast.stream import Stream, StreamSettings
from rwpm_fast.stream.deadline import Costs
from rwpm_fast.stream.outputs import Outputs
from rwpm_fast.stream.outputs.lines import JsonLinesOutput
from rwpm_fast.stream.outputs.scores import Hdf5Output


class FullDisk(Hdf5Output):
    """A file on a disk that is full after some frames."""

    full_after = 5

    def write(self, outcome, draw):
        if self._count >= self.full_after:
            raise OSError(28, "No space left on device")
        super().write(outcome, draw)


@pytest.mark.parametrize(
    ("frames", "paced"),
    [(300, True), (300, False), *(pytest.param(10_000, paced, marks=pytest.mark.slow) for paced in (True, False))],
)
def test_a_long_stream(tmp_path, frames, paced):
    pytest.importorskip("h5py")
    broken = set(range(7, frames, 13))
    error = OSError("the camera was unplugged")
    source = FakeSource(frames + 1, rate=2000.0, broken=broken, error=(frames, error))
    # Frames come faster than a slow machine passes them on, and one walk in 50 is ten times as slow again. The full
    # walk is said not to fit into the deadline, so that frames are degraded until it is tried.
    slow = dict.fromkeys(range(0, 250, 50), 5e-3)
    stages = FakeStages(slow=slow, levels=3, costs=Costs(1e-4, [6000.0, 1e-4, 1e-5], 1e-4))
    settings = StreamSettings(deadline=600.0) if paced else StreamSettings(all_frames=True)
    told, sizes, resident, indices = [], [], [], []
    outputs = Outputs(None, told.append)
    outputs.add(JsonLinesOutput(tmp_path / "frames.jsonl"))
    outputs.add(FullDisk(tmp_path / "full.h5"))

    def watch(outcome):
        indices.append(outcome.index)
        outputs.write(outcome)
        if len(indices) % (frames // 10) == 0:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * resource.getpagesize())

    tracemalloc.start()
    try:
        stream = Stream(source, stages, settings, watch)
        with pytest.raises(OSError, match="unplugged"):
            for _ in stream:
                pass
        outputs.finish(stream.summary)
    finally:
        tracemalloc.stop()
    summary = stream.summary
    assert indices == list(range(frames))
    assert summary.frames == source.given == frames
    assert summary.frames == summary.processed + summary.dropped + summary.broken
    assert summary.broken == len(broken) and (paced or summary.dropped == 0)
    assert summary.latencies.count == summary.processed > 0
    assert summary.degraded <= summary.processed and (summary.degraded > 0) == paced
    assert summary.ended == "OSError: the camera was unplugged"
    lines = (tmp_path / "frames.jsonl").read_text().splitlines()
    assert len(lines) == frames + 1 and len(told) == (summary.processed > FullDisk.full_after)
    assert [path.name for path in tmp_path.iterdir() if path.name != "frames.jsonl"] == ["full.h5"] * (not told)
    # What the test itself keeps: indices, levels, and a histogram and points that are full soon.
    assert sizes[-1] - sizes[len(sizes) // 2] < 64 * frames + 100_000
    assert resident[-1] - resident[len(resident) // 2] < 2**24
