"""How the weights of ``rwpm_fast.networks.compact`` are made: teacher -> samples -> train. Not part of the package."""
