"""The operator: ``torch.ops.rwpm.walk`` and what is built on it; imported without torch, which its modules need."""


class FallbackWarning(UserWarning):
    """The walk runs in plain torch because the compiled library cannot serve."""
