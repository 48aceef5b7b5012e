"""Compute anomaly maps of images: prediction of the network, sizes and sub-maps, scores, calibration."""
