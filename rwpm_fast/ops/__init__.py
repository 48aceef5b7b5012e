"""The operator ``torch.ops.rwpm.walk`` and what is built on it. This file needs no torch; the modules in it do."""


class FallbackWarning(UserWarning):
    """Warns that the walk runs in plain torch, because the compiled library cannot be used."""
