"""SynBoost and Image Resynthesis++: anomaly scores from how a photo differs from a synthesis of its segmentation.

``uncertainty`` (maps of the segmentation, and of a photo against its synthesis, by the ``features`` of ``vgg`` or of
another network) -> ``synthesis`` (an image from a segmentation, by ``ccfpse`` or by ``light_generator``, which
``generator_training`` trains) -> ``dissimilarity`` (network that compares the two) -> ``ensemble`` (one score of four
maps); ``labels`` makes the labels to train on.
``pipeline`` is the chain from a photo to its score, ``estimator`` the function that Fishyscapes' evaluation calls.

Source: Pixel-wise Anomaly Detection in Complex Driving Scenes (Di Biase et al., CVPR 2021, arXiv 2103.05445).
"""
