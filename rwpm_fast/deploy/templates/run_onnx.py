"""Score photos with an exported model: an anomaly map (.npy) and a picture of it (.png) for each.

    python run_onnx.py model.onnx street.jpg --out maps

It needs onnxruntime, NumPy and Pillow, but no torch. Where the model's walk is an operator, as it is unless it was
exported with --pure, librwpm_ort.so must lie beside the model or this script, in an installed rwpm-fast, or where
--library says. It stands beside every export and imports nothing of rwpm_fast, to be copied and changed.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

LIBRARY = "librwpm_ort.so"


def find_library(model):
    """The operator's library beside the model or this script, or in an installed rwpm-fast; None if it is nowhere."""
    package = find_spec("rwpm_fast")
    folders = [model.resolve().parent, Path(__file__).resolve().parent]
    folders += map(Path, (package and package.submodule_search_locations) or [])
    return next((folder / LIBRARY for folder in folders if (folder / LIBRARY).exists()), None)


def load(model, library, threads):
    """A session for the model. It exits with one line where that does not work."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Without the operator a model whose walk is plain ONNX loads all the same.
    reason = f"it needs {LIBRARY}, see --library"
    if library is not None:
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:
            reason = one_line(error)
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        operator_missing = "rwpm:Walk" in str(error)
        sys.exit(f"{model}: cannot run its walk: {reason}" if operator_missing else f"{model}: {one_line(error)}")


def one_line(error):
    """What an exception says."""
    return " ".join(str(error).split())


def read_photo(path):
    """[H, W, 3] uint8, RGB."""
    try:
        return np.asarray(Image.open(path).convert("RGB"))
    except OSError as error:
        sys.exit(f"{path}: {error}")


def picture(photo, score):
    """The photo in gray, and over it the scores from the lowest, not seen, to the highest, yellow."""
    share = (score - score.min()) / max(float(np.ptp(score)), 1e-12)
    heat = np.stack(
        [np.interp(share, [0, 0.5, 1], channel) for channel in ([0, 200, 255], [0, 0, 230], [0, 60, 40])], -1
    )
    gray = photo.mean(-1, keepdims=True).repeat(3, -1)
    mixed = gray + (heat - gray) * share[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def main():
    parser = argparse.ArgumentParser(description="Score photos with an exported model: a map and a picture for each.")
    parser.add_argument("model", type=Path, help="model.onnx")
    parser.add_argument("photos", type=Path, nargs="+", metavar="photo")
    parser.add_argument("--out", type=Path, default=Path("maps"), help="folder for the results (default: maps)")
    parser.add_argument("--library", type=Path, help=f"{LIBRARY} (default: beside the model, or of rwpm_fast)")
    parser.add_argument("--threads", type=int, default=0, help="0, the default: one for each core")
    options = parser.parse_args()

    session = load(options.model, options.library or find_library(options.model), options.threads)
    facts = session.get_modelmeta().custom_metadata_map
    print(f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
    for name in sorted(facts):
        print(f"{name} = {facts[name]}")
    threshold = facts.get("rwpm.threshold")
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.photos:
        photo = read_photo(path)
        start = time.perf_counter()
        score, _segmentation = session.run(["score", "segmentation"], {"photo": photo})
        seconds = time.perf_counter() - start
        np.save(options.out / f"{path.stem}.npy", score)
        picture(photo, score).save(options.out / f"{path.stem}.png")
        line = f"{path}: {seconds:.3f} s, scores {score.min():.4g} to {score.max():.4g}"
        if threshold:
            line += f", {(score >= float(threshold)).mean():.2%} of the pixels at or above {threshold}"
        print(line)


if __name__ == "__main__":
    main()
