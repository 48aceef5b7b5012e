"""How the weights of ``rwpm_fast.networks.compact`` are made. Not part of the package.

teacher, scenes -> lessons -> strangers -> views -> train.
"""
