"""Training of the compact network: distillation from a teacher, rendered scenes and synthetic outliers.

The network learns the classes that a teacher gives to photos and the true ones of rendered scenes, and to be unsure
where synthetic outliers are (outlier exposure). ``python -m rwpm_fast.training`` makes the weights that the package
ships; ``python -m rwpm_fast.training.agreement`` compares a network with its teacher.

samples (images and what is known of them) -> outliers, photometric -> augment (training batches) -> loop (train).
"""
