"""From an image to an anomaly map: the network's prediction, padding and sub-maps, scores, calibration."""
