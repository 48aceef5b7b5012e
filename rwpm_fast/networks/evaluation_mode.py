"""Evaluation mode of modules that score: entered once, and checked at each use, since others may train them."""

from __future__ import annotations

from torch import nn


def enter_evaluation(module: nn.Module) -> list[nn.Module]:
    """Put a module into evaluation mode.

    Returns:
        The modules in it that evaluation mode leaves in training, such as a dropout that samples.
    """
    return [part for part in module.eval().modules() if part.training]


def check_evaluation(argument: str, module: nn.Module, name: str, always_training: list[nn.Module]) -> None:
    """Check that a module is in evaluation mode. It is not put back: another thread may be training.

    Args:
        argument: name of the argument that the module was given as, for the error.
        module: the module.
        name: of the module itself, for the error.
        always_training: result of :func:`enter_evaluation`.

    Raises:
        RuntimeError: a part of it is in training mode, where results would differ from call to call and photos would
            enter the statistics of batch norms.
    """
    for path, part in module.named_modules():
        if part.training and not any(part is other for other in always_training):
            raise RuntimeError(
                f"{argument}: module {path or name!r} of it is in training mode; call .eval() before scoring, "
                "or train a copy"
            )
