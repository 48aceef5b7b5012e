"""Scores and calibration against the golden files of the original implementations."""

import torch
from torch.nn.functional import interpolate

from python_tests import conformance
from python_tests.conformance import golden, scale_of
from rwpm_fast import scores
from rwpm_fast.networks import MaskLogits
from rwpm_fast.scoring.calibration import calibrate
from rwpm_fast.scoring.prediction import MaskPrediction


def load(path):
    return {name: torch.from_numpy(array) for name, array in conformance.load(path).items()}


def check(got, wanted, path, quantity):
    scale = scale_of(path, quantity, wanted)
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max().item() <= min(1e-4 * scale["max_abs"], 1e-3 * scale["spatial_std"])


def upsampled(mask_logits):
    return interpolate(mask_logits, scale_factor=4, mode="bilinear", align_corners=False)


def fitted(maps, arrays):
    """Crop the padding away, then resize to the output."""
    (height, width), size = arrays["image_size"].tolist(), arrays["output_size"].tolist()
    return interpolate(maps[..., :height, :width], size=size, mode="bilinear", align_corners=False)


@golden("mask_scores")
def test_conformance_class_maps_and_rba(path):
    arrays = load(path)
    height, width = arrays["image_size"].tolist()
    maps = scores.mask_class_logits(arrays["class_logits"], upsampled(arrays["mask_logits"][None])[0])
    maps = maps[:, :height, :width]
    check(maps[:, ::2, ::2], arrays["semantic_logits_stride2"], path, "L")
    check(scores.rba(maps), arrays["rba_tanh"], path, "rba_tanh")
    check(scores.rba(maps, squash="sigmoid"), arrays["rba_sigmoid"], path, "rba_sigmoid")


@golden("mask_scores")
def test_conformance_mask2anomaly(path):
    arrays = load(path)
    # The image and its mirror image as one batch, which must serve two different numbers of stuff maps.
    class_logits = torch.stack([arrays["class_logits"], arrays["flip_class_logits"]])
    mask_logits = upsampled(torch.stack([arrays["mask_logits"], arrays["flip_mask_logits"]]))
    stuff_maps = scores.confident_stuff_maps(class_logits, mask_logits)
    found = (stuff_maps >= 0).flatten(-2).all(-1).sum(-1) if stuff_maps.shape[1] else torch.zeros(2)
    assert found.tolist() == arrays["m2a_num_extra"].tolist()

    class_maps = fitted(scores.mask_class_logits(class_logits, mask_logits), arrays)
    stuff_maps = fitted(stuff_maps, arrays) if stuff_maps.shape[1] else None
    plain, flipped = scores.mask2anomaly(class_maps, stuff_maps, refine=False)
    check(plain, arrays["m2a_plain_norefine"], path, "m2a_plain_norefine")
    check(flipped, arrays["m2a_flip_norefine"], path, "m2a_flip_norefine")
    check((plain + flipped.flip(-1)) / 2, arrays["m2a_final_norefine"], path, "m2a_final_norefine")
    plain, flipped = scores.mask2anomaly(class_maps, stuff_maps)
    check(plain, arrays["m2a_plain"], path, "m2a_plain")
    check(flipped.flip(-1), arrays["m2a_flip_flipped_back"], path, "m2a_flip_flipped_back")
    check((plain + flipped.flip(-1)) / 2, arrays["m2a_final"], path, "m2a_final")


@golden("mask_scores")
def test_conformance_mask_prediction(path):
    arrays = load(path)
    image_size, output_size = (tuple(arrays[name].tolist()) for name in ("image_size", "output_size"))
    padded_size = tuple(4 * side for side in arrays["mask_logits"].shape[-2:])
    plain, flipped = (
        MaskLogits(arrays[f"{view}class_logits"][None], arrays[f"{view}mask_logits"][None]) for view in ("", "flip_")
    )
    prediction = MaskPrediction(image_size, None, plain, padded_size, image_size)
    check(prediction.full_logits[:, ::2, ::2], arrays["semantic_logits_stride2"], path, "L")
    check(prediction.score("rba"), arrays["rba_tanh"], path, "rba_tanh")
    both = MaskLogits(*map(torch.cat, zip(plain, flipped, strict=True)))
    for logits, wanted in ((plain, "m2a_plain"), (both, "m2a_final")):
        prediction = MaskPrediction(output_size, None, logits, padded_size, image_size)
        check(prediction.score("mask2anomaly"), arrays[wanted], path, wanted)
    backwards = MaskPrediction(output_size, None, flipped, padded_size, image_size).score("mask2anomaly").flip(-1)
    check(backwards, arrays["m2a_flip_flipped_back"], path, "m2a_flip_flipped_back")


@golden("rwpm_calibration")
def test_conformance_calibration(path):
    arrays = load(path)
    height, width = (side // 4 * 4 for side in arrays["score"].shape)
    score_map = arrays["score"][:height, :width]
    edges = [[side * k // 4 for k in range(5)] for side in (height, width)]
    check(calibrate(score_map, *edges), arrays["calibrated"], path, "calibrated")
    exact, factors = calibrate(score_map.double(), *edges, return_factors=True)
    torch.testing.assert_close(exact, arrays["calibrated_f64"], rtol=1e-9, atol=0)
    torch.testing.assert_close(factors, arrays["block_factors_f64"], rtol=1e-9, atol=0)


@golden("synboost_uncertainty")
def test_conformance_entropy(path):
    arrays = load(path)
    wanted = arrays["entropy_raw_nats_f64"]
    check(scores.entropy(arrays["logits"]), wanted, path, "entropy_raw_nats_f64")
    torch.testing.assert_close(scores.entropy(arrays["logits"].double()), wanted, rtol=1e-9, atol=0)


def strided(arrays, stem):
    """The array stored as ``stem`` or ``stem_stride<n>``, and its stride."""
    for name, array in arrays.items():
        stride = name.removeprefix(stem).removeprefix("_stride") or "1"
        if name.startswith(stem) and stride.isdigit():
            return array, int(stride)
    raise KeyError(stem)


@golden("deeplab_wrn38", holding="energy_raw")
def test_conformance_energy_and_blur(path):
    arrays = load(path)
    (raw, raw_stride), (logits, logits_stride) = strided(arrays, "energy_raw"), strided(arrays, "logits_up")
    step = logits_stride // raw_stride
    check(scores.energy(logits[:, :19])[0], raw[::step, ::step], path, "e_raw")
    if "energy_blur" in arrays:
        check(scores.gaussian_blur(arrays["energy_raw"]), arrays["energy_blur"], path, "e_blur")
    if "energy_blur_f64" in arrays:
        blurred = scores.gaussian_blur(arrays["energy_raw_f64"])
        torch.testing.assert_close(blurred, arrays["energy_blur_f64"], rtol=1e-9, atol=0)
