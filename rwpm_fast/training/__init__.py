"""Training of the compact network: distillation from a teacher, rendered scenes and synthetic outliers.

The network learns the classes that a teacher gives to photos and the true ones of rendered scenes, and to be unsure
where synthetic outliers are (outlier exposure). ``rwpm-fast train compact`` makes such weights as the package ships;
``python -m rwpm_fast.training.agreement`` compares a network with its teacher.

samples (images and what is known of them), kept by sample_cache -> outliers, photometric -> augment (batches), made
ahead -> losses -> trainer (steps) -> run (all of it, in a folder), with settings.
"""
