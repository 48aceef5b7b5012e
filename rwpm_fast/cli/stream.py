"""The sub-command ``stream``."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.extras import require_extras
from ..io.files import atomic_write, make_folder, make_folder_of
from ..io.outputs import check_outputs
from .loading import load_scorer
from .options import (
    add_method_options,
    add_network_options,
    add_walk_options,
    check_figure_file,
    method_files,
)

if TYPE_CHECKING:
    from ..stream import SourceInfo, StreamSettings, Summary
    from ..stream.outputs import Outputs

SUMMARY = "Score a video, frames, a camera or a recording as it comes, and keep a deadline."
_FILES = ("save_video", "save_scores", "mcap", "rerun", "json", "chart")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="video, folder or glob pattern of frames, index of a camera, RTSP address, MCAP or ROS bag",
    )
    parser.add_argument("--score", help="anomaly score (default: the method's, or that of the network's authors)")
    group = parser.add_argument_group("source")
    group.add_argument("--topic", help="topic of a recording (default: its only one with images)")
    group.add_argument("--color", metavar="MATRIX", help="color matrix of a video, in place of its tag")
    group.add_argument("--reader", help="what decodes a video (default: the first that is installed)")
    group.add_argument("--rate", type=float, metavar="FPS", help="frames per second of frames in files of their own")
    group = parser.add_argument_group("time")
    group.add_argument(
        "--deadline",
        type=float,
        metavar="MS",
        help="milliseconds from when a frame is there to when its score is: the walk is degraded to keep it, and "
        "frames that cannot are dropped (default: none)",
    )
    group.add_argument(
        "--all-frames", action="store_true", help="drop none and take them as fast as possible: the source waits"
    )
    group.add_argument(
        "--queue", type=int, metavar="N", help="frames that may wait; then the oldest is dropped (default: 1)"
    )
    group.add_argument(
        "--loosest-tolerance", type=float, metavar="MASS", help="bound of the first degradation (default: 0.001)"
    )
    group.add_argument("--fewest-steps", type=int, metavar="T", help="bound of the second degradation (default: 5)")
    group.add_argument(
        "--ego-mask",
        type=Path,
        metavar="FILE",
        help="gray image of the frames' size, above 0 where the vehicle itself is seen: left out with the sky",
    )
    group = parser.add_argument_group("results")
    group.add_argument("--save-video", type=Path, metavar="FILE", help="write the scores over the frames as a video")
    group.add_argument(
        "--score-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="scores at the ends of the colors (default: follow the scores slowly)",
    )
    group.add_argument(
        "--save-scores",
        type=Path,
        metavar="DIR|FILE.h5",
        help="write a .npy for each frame, or one HDF5 file (float16)",
    )
    group.add_argument("--mcap", type=Path, metavar="FILE", help="write score, overlay and times as an MCAP recording")
    group.add_argument("--rerun", type=Path, metavar="FILE", help="write them as a recording of Rerun")
    group.add_argument(
        "--json", metavar="FILE", help="write a line of JSON for each frame, and one for all; - for standard output"
    )
    group.add_argument("--chart", type=Path, metavar="FILE", help="draw the latencies: .png, .pdf or .svg")
    add_network_options(parser)
    add_method_options(parser)
    add_walk_options(parser)


def run(options: argparse.Namespace) -> int:
    from ..stream import open_source
    from ..stream.outputs import Outputs
    from ..stream.run import stream
    from ..stream.signals import stopped_by_signals
    from ..stream.table import LiveTable, summary_text

    draws = [name for name in ("save_video", "mcap", "rerun") if getattr(options, name) is not None]
    _check_files(options)
    require_extras("stream", "PIL.Image", *(["matplotlib.figure"] if draws or options.chart else []))
    settings = _settings(options)
    names = ("topic", "color", "reader", "rate")
    opening = {name: value for name in names if (value := getattr(options, name)) is not None}
    with closing(open_source(options.source, **opening)) as source:
        overlay = None
        if draws:
            from ..viz.overlay import Overlay

            overlay = Overlay(tuple(options.score_range) if options.score_range else None)
        table = LiveTable(sys.stderr)
        outputs = Outputs(overlay, table.note)
        if options.threads is None:
            options.threads = _half_of_threads()
        try:
            _open_outputs(outputs, options, source.info)
            scorer = load_scorer(options, options.score)
        except BaseException:
            outputs.discard()
            raise
        with stream(source, scorer, settings=settings, watch=outputs.write) as results:
            try:
                with stopped_by_signals(results.stop) as signals:
                    for _ in results:
                        table.update(results.summary)
            finally:
                results.close()
                table.close()
                outputs.finish(results.summary)
                print(summary_text(results.summary), file=sys.stderr if options.json == "-" else sys.stdout)
                for note in source.info.notes:
                    print(f"{source.info.name}: {note}", file=sys.stderr)
        if options.chart is not None and results.summary.processed:
            _draw(options.chart, results.summary)
    if signals:
        return 128 + signals[0]
    if not results.summary.processed:
        print("no frame was scored, so that no score, video or chart was written", file=sys.stderr)
        return 1
    return 1 if outputs.failures else 0


def _settings(options: argparse.Namespace) -> StreamSettings:
    from ..io.images import read_labels
    from ..stream import StreamSettings

    names = ("queue", "loosest_tolerance", "fewest_steps")
    given: dict[str, Any] = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.deadline is not None:
        if not 0 < options.deadline < float("inf"):
            raise ValueError(f"--deadline: expected milliseconds above 0, got {options.deadline:g}")
        given["deadline"] = options.deadline / 1e3
    if options.ego_mask is not None:
        given["ego_mask"] = read_labels(options.ego_mask) > 0
    try:
        return StreamSettings(all_frames=options.all_frames, **given)
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        raise ValueError(f"--{name.replace('_', '-')}: {reason.replace('all_frames', '--all-frames')}") from error


def _half_of_threads() -> int:
    """Threads of each stage: network and walk run side by side, and threads that wait for one another lose much."""
    import torch

    return max(torch.get_num_threads() // 2, 1)


def _check_files(options: argparse.Namespace) -> None:
    """Check, before any work, what will be written."""
    files = {name: Path(file) for name in _FILES if (file := getattr(options, name)) not in (None, "-")}
    named = [(f"--{name.replace('_', '-')}", file) for name, file in files.items()]
    if options.chart is not None:
        check_figure_file(options.chart, "--chart")
    if options.score_range and not options.score_range[0] < options.score_range[1]:
        raise ValueError(f"--score-range: expected LOW below HIGH, got {options.score_range}")
    read = Path(options.source) if Path(options.source).exists() else None
    check_outputs(named, [read, options.weights, options.ego_mask, *method_files(options).values()], "give another")
    for option, file in named:
        if option == "--save-scores" and not _is_hdf5(file):
            make_folder(file, option)
        else:
            make_folder_of(file, option)


def _is_hdf5(file: Path) -> bool:
    return file.suffix.lower() in (".h5", ".hdf5")


def _open_outputs(outputs: Outputs, options: argparse.Namespace, info: SourceInfo) -> None:
    """Open what was asked for; each library is imported only where it is."""
    if options.json is not None:
        from ..stream.outputs.lines import JsonLinesOutput

        out = options.json == "-"
        outputs.add(JsonLinesOutput(None if out else Path(options.json), sys.stdout if out else None))
    if options.save_scores is not None:
        from ..stream.outputs.scores import Hdf5Output, NumpyOutput

        outputs.add((Hdf5Output if _is_hdf5(options.save_scores) else NumpyOutput)(options.save_scores))
    if options.save_video is not None:
        from ..stream.outputs.video import VideoOutput

        outputs.add(VideoOutput(options.save_video, info))
    if options.mcap is not None:
        from ..stream.outputs.recording import RecordingOutput

        outputs.add(RecordingOutput(options.mcap, info))
    if options.rerun is not None:
        from ..stream.outputs.rerun_log import RerunOutput

        outputs.add(RerunOutput(options.rerun))


def _draw(file: Path, summary: Summary) -> None:
    from ..viz.figures import figure_bytes
    from ..viz.latency import latency_chart

    latencies = summary.latencies
    counts = {name: getattr(summary, name) for name in ("processed", "dropped", "broken", "degraded")}
    figure = latency_chart(
        latencies.points or [(0, latencies.largest)],
        {f"p{percent}": latencies.percentile(percent) for percent in (50, 95, 99)},
        {name: seconds / summary.processed for name, seconds in summary.stages.items()},
        counts,
        deadline=summary.deadline,
    )
    picture = figure_bytes(figure, file.suffix.lower()[1:])
    atomic_write(file, lambda stream: stream.write(picture))
