"""SynBoost and Image Resynthesis++: anomaly scores from how a photo differs from a synthesis of its segmentation.

Source: Pixel-wise Anomaly Detection in Complex Driving Scenes (Di Biase et al., CVPR 2021).
"""
